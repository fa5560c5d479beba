/** What an `HttpApi` answers with, as its platform would make it: a handler that has run is answered for here. */
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpServerError from "@effect/platform/HttpServerError"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Schema from "effect/Schema"
import type * as AST from "effect/SchemaAST"

type Response = HttpServerResponse.HttpServerResponse

/** A value as a response; fails if no schema is for it. What schemas need is in the context of their API's handlers. */
type Encode = (value: unknown) => Effect.Effect<Response, unknown>

const responseOf = (data: unknown, ast: AST.AST, status: number): Effect.Effect<Response, unknown> => {
  if (HttpApiSchema.isVoid(ast)) return Effect.succeed(HttpServerResponse.empty({ status }))
  const { contentType, kind } = HttpApiSchema.getEncoding(ast)
  const options = { status, contentType }
  switch (kind) {
    case "Json":
      return HttpServerResponse.json(data, options)
    case "Text":
      return Effect.succeed(HttpServerResponse.text(String(data), options))
    case "Uint8Array":
      return Effect.map(Schema.decodeUnknown(Schema.Uint8ArrayFromSelf)(data), (bytes) =>
        HttpServerResponse.uint8Array(bytes, options)
      )
    case "UrlParams":
      return Effect.map(
        Schema.decodeUnknown(Schema.Record({ key: Schema.String, value: Schema.UndefinedOr(Schema.String) }))(data),
        (params) => HttpServerResponse.urlParams(params, options)
      )
  }
}

/** By the first member of the schemas that is for the value, as the platform does. */
const encoder = (schemas: ReadonlyArray<AST.AST>, statusOf: (ast: AST.AST) => number): Encode => {
  const members = new Set<Schema.Schema.Any>()
  for (const schema of schemas) HttpApiSchema.deunionize(members, Schema.make<unknown>(schema))
  const encoders = Array.from(members, ({ ast }) => {
    const encode = Schema.encodeUnknown(Schema.make<unknown>(ast))
    const status = statusOf(ast)
    return (value: unknown) => Effect.flatMap(encode(value), (data) => responseOf(data, ast, status))
  })
  return (value) =>
    encoders.reduce<Effect.Effect<Response, unknown>>(
      (earlier, encode) => Effect.orElse(earlier, () => encode(value)),
      Effect.fail("no schema is for this value")
    )
}

/** A handler's value as a response; one that its schema refuses is a defect of the handler, which has run. */
export const responseEncoder = (schema: AST.AST): ((value: unknown) => Effect.Effect<Response>) => {
  const encode = encoder([schema], HttpApiSchema.getStatusSuccessAST)
  return (value) => (HttpServerResponse.isServerResponse(value) ? Effect.succeed(value) : Effect.orDie(encode(value)))
}

/** An error that is an instance of a schema with a status says itself what it is answered with. */
const ownSchema = (error: unknown): ReadonlyArray<AST.AST> => {
  const made: unknown = typeof error === "object" && error !== null ? error.constructor : undefined
  return Schema.isSchema(made) && HttpApiSchema.getStatus(made.ast, 0) > 0 ? [made.ast] : []
}

const defectResponse = (cause: Cause.Cause<unknown>): Effect.Effect<Response> =>
  Effect.map(HttpServerError.causeResponse(cause), ([response]) => response)

/** What a failure is answered with: by the schemas of the errors that are known, and nothing if they do not tell. */
export const failureEncoder = (
  schemas: ReadonlyArray<AST.AST>
): ((cause: Cause.Cause<unknown>) => Effect.Effect<Response | undefined>) => {
  const encode = encoder(schemas, HttpApiSchema.getStatusErrorAST)
  return (cause) => {
    const error = Cause.squash(cause)
    // Not `orElse`: an API's schemas may ask for services that are not there.
    return pipe(
      encode(error),
      Effect.catchAllCause(() => encoder(ownSchema(error), HttpApiSchema.getStatusErrorAST)(error)),
      Effect.catchAllCause(() =>
        HttpServerRespondable.isRespondable(error) ? defectResponse(cause) : Effect.succeed(undefined)
      )
    )
  }
}
