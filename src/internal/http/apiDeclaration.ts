/** What an endpoint says of itself: to the server that protects it, and to the readers of its OpenAPI document. */
import type * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import type * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import type { HttpMethod } from "@effect/platform/HttpMethod"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Context from "effect/Context"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type {
  HttpIdempotencyEndpointOptions,
  HttpIdempotencyGroupOptions,
  HttpIdempotentEndpoint,
  HttpIdempotentEndpoints
} from "../../http/HttpIdempotencyApi.js"
import { HttpIdempotencyProblem } from "../../http/HttpIdempotencyProblem.js"

/** On endpoints that are to be protected. */
export class Declaration extends Context.Tag("effect-idempotency/http/Declaration")<
  Declaration,
  HttpIdempotencyEndpointOptions
>() {}

export const declarationOf = ({
  annotations
}: {
  readonly annotations: Context.Context<never>
}): HttpIdempotencyEndpointOptions | undefined => Option.getOrUndefined(Context.getOption(annotations, Declaration))

export const defaultHeader = "Idempotency-Key"

type Json = Record<string, unknown>

const objectIn = (parent: Json, name: PropertyKey): Json => {
  const value = parent[String(name)]
  return Predicate.isReadonlyRecord(value) ? { ...value } : {}
}

const arrayIn = (parent: Json, name: string): ReadonlyArray<unknown> => {
  const value = parent[name]
  return Array.isArray(value) ? value : []
}

const withParameter = (operation: Json, name: string, required: boolean): Json => {
  const parameters = arrayIn(operation, "parameters")
  const isDeclared = parameters.some(
    (parameter) =>
      Predicate.isReadonlyRecord(parameter) &&
      parameter["in"] === "header" &&
      String(parameter["name"]).toLowerCase() === name.toLowerCase()
  )
  if (isDeclared) return operation
  const description =
    "Identifies the request: send the same key, and the same content, with every retry, to get the first response."
  const parameter = { name, in: "header", required, description, schema: { type: "string", minLength: 1 } }
  return { ...operation, parameters: [...parameters, parameter] }
}

const problemType = "application/problem+json"

/**
 * Problems have a media type of their own. Where others have the same status, the platform puts all of them under
 * `application/json`.
 */
const withProblem = (response: Json, status: number): Json => {
  const content = objectIn(response, "content")
  const json = objectIn(content, "application/json")
  const isProblem = (schema: unknown) =>
    Predicate.hasProperty(schema, "$ref") && schema.$ref === `#/components/schemas/IdempotencyProblem${status}`
  const members = arrayIn(objectIn(json, "schema"), "anyOf")
  const problem = members.find(isProblem)
  if (problem === undefined) return response
  const others = members.filter((member) => member !== problem)
  return {
    ...response,
    content: {
      ...content,
      "application/json": { ...json, schema: others.length === 1 ? others[0] : { anyOf: others } },
      [problemType]: { schema: problem }
    }
  }
}

const withRetryAfter = (response: Json): Json => ({
  ...response,
  headers: {
    ...objectIn(response, "headers"),
    "Retry-After": {
      description: "Seconds to wait before the request is sent again, where that is of use",
      schema: { type: "integer", minimum: 1 }
    }
  }
})

const documented =
  ({ header = defaultHeader, required = false }: HttpIdempotencyEndpointOptions) =>
  (operation: Json): Json => {
    const responses = objectIn(operation, "responses")
    for (const status of [400, 409, 413, 422, 503]) {
      const response = withProblem(objectIn(responses, status), status)
      responses[String(status)] = status === 409 || status === 503 ? withRetryAfter(response) : response
    }
    return withParameter({ ...operation, responses }, header, required)
  }

export const endpoint =
  (options: HttpIdempotencyEndpointOptions = {}) =>
  <Name extends string, Method extends HttpMethod, Path, UrlParams, Payload, Headers, Success, Error, R, RE>(
    self: HttpApiEndpoint.HttpApiEndpoint<Name, Method, Path, UrlParams, Payload, Headers, Success, Error, R, RE>
  ): HttpApiEndpoint.HttpApiEndpoint<
    Name,
    Method,
    Path,
    UrlParams,
    Payload,
    Headers,
    Success,
    Error | HttpIdempotencyProblem,
    R | HttpIdempotentEndpoint,
    RE
  > => {
    const transform = Option.getOrElse(Context.getOption(self.annotations, OpenApi.Transform), () => identity<Json>)
    const document = documented(options)
    return self
      .addError(HttpIdempotencyProblem.response)
      .annotate(Declaration, options)
      .annotate(OpenApi.Transform, (operation) => transform(document(operation)))
  }

const isGuarded = (method: HttpMethod): boolean => method === "POST" || method === "PATCH"

export const group = (options: HttpIdempotencyGroupOptions = {}) => {
  function declare<
    Id extends string,
    Endpoints extends HttpApiEndpoint.HttpApiEndpoint.Any,
    Error,
    R,
    TopLevel extends boolean
  >(
    self: HttpApiGroup.HttpApiGroup<Id, Endpoints, Error, R, TopLevel>
  ): HttpApiGroup.HttpApiGroup<Id, HttpIdempotentEndpoints<Endpoints>, Error, R, TopLevel>
  function declare(self: HttpApiGroup.HttpApiGroup.AnyWithProps): HttpApiGroup.HttpApiGroup.AnyWithProps {
    return Object.values(self.endpoints)
      .filter((each) => isGuarded(each.method) && declarationOf(each) === undefined)
      .reduce((all, each) => all.add(endpoint(options)(each)), self)
  }
  return declare
}
