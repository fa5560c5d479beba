/** A store with a key in each state, and the console over it as a server or as a function. */
import { createServer } from "node:http"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { IdempotencyConsole, type IdempotencyConsoleOptions } from "../../src/console.js"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { Outcome } from "../../src/internal/protocol.js"
import type { Json } from "../../src/Jsonable.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { type ManualClock, makeManualClock } from "../support/manualClock.js"

export type Repository = Context.Tag.Service<IdempotencyRepository>

export const ids = (operation: string, key: string, scope?: string): IdempotencyIdentifiers =>
  Effect.runSync(IdempotencyIdentifiers.from({ operation, idempotencyKey: key, scope }))

/** Lets time go by on the clock of the test. */
export class Time extends Context.Tag("test/console/Time")<Time, ManualClock["advance"]>() {}

export const pass = (millis: number): Effect.Effect<void, never, Time> =>
  Effect.flatMap(Time, (advance) => advance(millis))

export const onManualClock = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<R, Time>> =>
  Effect.suspend(() => {
    const { advance, clock } = makeManualClock()
    return effect.pipe(Effect.provideService(Time, advance), Effect.withClock(clock))
  })

/** A test on a clock of its own. */
export const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope | Time>) =>
  it.scoped(name, () => onManualClock(effect))

/** Nothing in it, on the night of the third of July. */
export const empty: Effect.Effect<Repository, never, Scope.Scope | Time> = Effect.gen(function* () {
  yield* pass(Date.UTC(2026, 6, 3, 2, 40))
  return Context.get(yield* Layer.build(MemoryIdempotencyRepository.layer), IdempotencyRepository)
})

/** What a shop might hold. */
export const seeded: Effect.Effect<Repository, never, Scope.Scope | Time> = Effect.suspend(() =>
  Effect.tap(empty, (repository) => Effect.orDie(seed(repository, pass)))
)

const minutes = 60_000
const hours = 60 * minutes
const days = 24 * hours

export interface ClaimOptions {
  readonly lease?: number
  readonly guarantee?: "at-least-once" | "at-most-once"
  readonly fingerprint?: string
}

/** Claims the key by a token that is named after it. */
export const claim = ({ driver }: Repository, of: IdempotencyIdentifiers, options: ClaimOptions = {}) =>
  driver.claim(of, {
    token: `owner of ${of.idempotencyKey}`,
    fingerprint: options.fingerprint,
    guarantee: options.guarantee ?? "at-least-once",
    lease: options.lease ?? 30_000,
    retention: 12 * hours,
    unknownRetention: 30 * days
  })

const token = (of: IdempotencyIdentifiers) => ({ token: `owner of ${of.idempotencyKey}` })

export const complete = (repository: Repository, of: IdempotencyIdentifiers, outcome: Outcome) =>
  Effect.zipRight(
    claim(repository, of, { fingerprint: "4vKq0cZt1mYw8rEo2uXa7sLd5nBj3hGf6iPk9yTeRQs" }),
    repository.driver.complete(of, { ...token(of), outcome, fingerprint: undefined, retention: 12 * hours })
  )

export const completed = (repository: Repository, of: IdempotencyIdentifiers, result: Json) =>
  complete(repository, of, { _tag: "Success", encoded: JSON.stringify(result) })

export const hold = (repository: Repository, of: IdempotencyIdentifiers) =>
  Effect.zipRight(claim(repository, of, { guarantee: "at-most-once" }), repository.driver.hold(of, token(of)))

export const release = (repository: Repository, of: IdempotencyIdentifiers) =>
  Effect.zipRight(claim(repository, of), repository.driver.release(of, token(of)))

const saveStep = (repository: Repository, of: IdempotencyIdentifiers, name: string) =>
  repository.driver.saveStep(of, { ...token(of), name, encoded: '{"secret":"of the step"}' })

/** `pass` lets time go by, where the store's clock can be moved. */
export const seed = <R>(repository: Repository, pass: (millis: number) => Effect.Effect<void, never, R>) =>
  Effect.gen(function* () {
    const orders = (count: number, from: number) => Array.from({ length: count }, (_, index) => `order-${from + index}`)
    for (const key of orders(14, 1041)) {
      yield* completed(repository, ids("payment.charge", key, "tenant-7"), { chargeId: `ch_${key}`, amount: 4200 })
      yield* pass(37_000)
    }
    for (const key of orders(9, 1041)) yield* completed(repository, ids("invoice.send", key), null)
    yield* complete(repository, ids("payment.charge", "order-1055", "tenant-7"), {
      _tag: "Failure",
      encoded: '{"_tag":"CardDeclined"}'
    })
    yield* complete(repository, ids("report.build", "2026-06"), { _tag: "Unavailable" })
    yield* hold(repository, ids("payout.transfer", "payout-310", "tenant-2"))
    yield* pass(11 * minutes)
    yield* hold(repository, ids("payout.transfer", "payout-311", "tenant-7"))
    yield* claim(repository, ids("payout.transfer", "payout-312", "tenant-7"), { guarantee: "at-most-once" })
    yield* pass(2 * minutes + 10_000)
    const shipment = ids("shipment.book", "order-1044", "tenant-7")
    yield* claim(repository, shipment, { lease: 15_000 })
    yield* saveStep(repository, shipment, "reserve carrier")
    yield* saveStep(repository, shipment, "print label")
    yield* pass(48_000)
    yield* release(repository, ids("shipment.book", "order-1043", "tenant-7"))
    yield* release(repository, ids("invoice.send", "order-1050"))
    for (const key of orders(3, 1056)) {
      yield* claim(repository, ids("payment.charge", key, "tenant-7"))
      yield* pass(4_000)
    }
    yield* claim(repository, ids("report.build", "2026-07"), { lease: 120_000 })
    yield* pass(1_000)
  })

/** The console as a web handler over the repository, at the root or mounted. */
export const serve = (
  repository: Repository,
  options: IdempotencyConsoleOptions = {},
  mountedAt?: `/${string}`
): Effect.Effect<(request: Request) => Promise<Response>> =>
  Effect.gen(function* () {
    const console = IdempotencyConsole.app(options)
    const app =
      mountedAt === undefined ? console : HttpRouter.empty.pipe(HttpRouter.mountApp(mountedAt, console), Effect.orDie)
    const runtime = yield* Effect.runtime<never>()
    const handler = HttpApp.toWebHandlerRuntime(runtime)(Effect.provideService(app, IdempotencyRepository, repository))
    return (request) => handler(request)
  })

/** The console on a port of its own; its address. */
export const listen = (
  repository: Repository,
  options: IdempotencyConsoleOptions = {}
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function* () {
    const server = yield* Effect.orDie(NodeHttpServer.make(() => createServer(), { port: 0, host: "127.0.0.1" }))
    const app = HttpRouter.empty.pipe(HttpRouter.mountApp("/admin/idempotency", IdempotencyConsole.app(options)))
    yield* server.serve(Effect.provideService(app, IdempotencyRepository, repository))
    if (server.address._tag !== "TcpAddress") throw new Error("not a TCP server")
    return `http://127.0.0.1:${server.address.port}/admin/idempotency`
  }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger)))

/** What a browser would see of an answer. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

export type Handler = (request: Request) => Promise<Response>

/** Whoever is interrupted goes away, like a browser. */
const answerOf = (handler: Handler, request: Request): Effect.Effect<Answer> =>
  Effect.promise(async (signal) => {
    const response = await handler(new Request(request, { signal }))
    return { status: response.status, headers: response.headers, text: await response.text() }
  })

export const origin = "http://console.example"

export const get = (handler: Handler, path: string, headers: Record<string, string> = {}): Effect.Effect<Answer> =>
  answerOf(handler, new Request(`${origin}${path}`, { headers }))

/** A form, sent as a browser would send it from a page of the console; a header that is empty is left out. */
export const post = (
  handler: Handler,
  path: string,
  fields: Record<string, string>,
  given: Record<string, string> = {}
): Effect.Effect<Answer> => {
  const headers = {
    "content-type": "application/x-www-form-urlencoded",
    "sec-fetch-site": "same-origin",
    origin,
    host: "console.example",
    ...given
  }
  return answerOf(
    handler,
    new Request(`${origin}${path}`, {
      method: "POST",
      headers: Object.entries(headers).filter(([, value]) => value !== ""),
      body: new URLSearchParams(fields).toString()
    })
  )
}

/** The token of a page's form, and the cookie that came with it. */
export const tokenOf = ({ headers, text }: Answer): { readonly token: string; readonly cookie: string } => ({
  token: /name="token" value="([\w-]+)"/.exec(text)?.[1] ?? "",
  cookie: headers.get("set-cookie")?.split(";")[0] ?? ""
})

const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" }

/** What a browser makes of escaped text. */
export const unescape = (text: string): string => text.replace(/&(#?\w+);/g, (_, name: string) => entities[name] ?? "?")

/** What a page's form sends by itself. */
export const hiddenOf = ({ text }: Answer): Record<string, string> =>
  Object.fromEntries(
    [...text.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)].map(([, name = "", value = ""]) => [
      name,
      unescape(value)
    ])
  )

export const query = (fields: Record<string, string>): string => `?${new URLSearchParams(fields)}`

/** Opens the form of an action, and sends it. */
export const act = (
  handler: Handler,
  path: string,
  identity: Record<string, string>,
  fields: Record<string, string> = {},
  headers: Record<string, string> = {}
): Effect.Effect<Answer> =>
  Effect.flatMap(get(handler, `${path}${query(identity)}`), (form) =>
    post(handler, path, { ...identity, ...hiddenOf(form), ...fields }, { cookie: tokenOf(form).cookie, ...headers })
  )

/** The words of a page, without its markup. */
export const wordsOf = (markup: string): string =>
  unescape(markup.replace(/<[^>]*>/g, " "))
    .replace(/\s+/g, " ")
    .trim()

/** A page without what stands in it: its tags, and the names of their attributes. */
export const skeletonOf = (markup: string): ReadonlyArray<string> =>
  [...markup.matchAll(/<[^>]*>/g)].map(([tag]) => tag.replace(/"[^"]*"/g, '""'))
