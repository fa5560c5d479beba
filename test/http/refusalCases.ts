/** What is refused, with which problem, and that a refusal changes nothing. */

import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyKey } from "../../src/IdempotencyKey.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import {
  type Case,
  expectProblem,
  expectReplay,
  freshKey,
  numbered,
  problems,
  settled,
  start,
  until
} from "./fixture.js"
import type { Mount } from "./support.js"

/** What a mount calls the operation of `POST /charges`. */
const operationOf = ({ name }: Mount): string =>
  name.includes("Router") ? `http.${IdempotencyKey.fromUntrusted("POST", "/charges")}` : "charges"

export const refusalCases = (test: Case, mount: Mount): void => {
  const stored = (scope: string, key: string) =>
    Effect.gen(function* () {
      const { inspect } = yield* IdempotencyRepository
      const identifiers = yield* IdempotencyIdentifiers.from({
        operation: operationOf(mount),
        idempotencyKey: IdempotencyKey.fromUntrusted(scope, key)
      })
      return yield* inspect(identifiers)
    }).pipe(Effect.orDie)

  test("a missing key is refused where it is required", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, numbered(), { required: true })
      expectProblem(yield* site.send(), problems.missing)
      expect((yield* site.send({ method: "GET" })).status).toBe(201)
      expect((yield* site.send({ key: freshKey() })).status).toBe(201)
      expect(site.runs()).toBe(2)
    }))

  test("what is no key is refused", () =>
    Effect.gen(function* () {
      const site = yield* start(mount)
      for (const key of [
        "",
        '""',
        "a, b",
        '"a", "b"',
        ["a", "b"],
        ['"a"', '"b"'],
        "k".repeat(256),
        '"half',
        "é",
        "12;v=1"
      ]) {
        expectProblem(yield* site.send({ key }), problems.invalid)
      }
      expect(site.runs()).toBe(0)
      expect((yield* site.send({ key: "k".repeat(254) + (mount.name[0] ?? "") })).status).toBe(201)
    }))

  test("strict takes strings alone; a schema decides, and makes one key of many spellings", () =>
    Effect.gen(function* () {
      const strict = yield* start(mount, numbered(), { keyFormat: "strict" })
      expectProblem(yield* strict.send({ key: "bare" }), problems.invalid)
      expect((yield* strict.send({ key: `"${freshKey()}"` })).status).toBe(201)

      const uuid = yield* start(mount, numbered(), { keyFormat: Schema.compose(Schema.Lowercase, Schema.UUID) })
      expectProblem(yield* uuid.send({ key: "not-a-uuid" }), problems.invalid)
      const key = crypto.randomUUID()
      const first = yield* uuid.send({ key })
      expectReplay(yield* uuid.send({ key: `"${key.toUpperCase()}"` }), first)
    }))

  test("a problem names its documentation", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, numbered(), {
        required: true,
        problemType: (code) => `https://docs.example/${code}`
      })
      expect(JSON.parse((yield* site.send()).text).type).toBe("https://docs.example/idempotency_key_missing")
    }))

  test("another request under the same key is refused, and changes nothing", () =>
    Effect.gen(function* () {
      const site = yield* start(mount)
      const key = freshKey()
      const sent = { key, path: "/charges?acct=1", body: '{"id":9007199254740993}' }
      const first = yield* site.send(sent)
      for (const other of [
        { path: "/charges?acct=2" },
        { body: '{"id":9007199254740992}' },
        { body: '{"id": 9007199254740993}' },
        { headers: { "content-type": "text/plain" } }
      ]) {
        expectProblem(yield* site.send({ ...sent, ...other }), problems.reused)
      }
      expectReplay(yield* site.send(sent), first)
      expect(site.runs()).toBe(1)
    }))

  test("the order of properties counts, unless the fingerprint is of the JSON", () =>
    Effect.gen(function* () {
      const orders = [{ body: '{"a":1,"b":2}' }, { body: '{"b":2,"a":1}' }]
      const bytes = yield* start(mount)
      const key = freshKey()
      yield* bytes.send({ key, ...orders[0] })
      expectProblem(yield* bytes.send({ key, ...orders[1] }), problems.reused)

      const json = yield* start(mount, numbered(), {
        fingerprint: (request) => Effect.mapError(request.json, () => HttpServerResponse.empty({ status: 400 }))
      })
      const other = freshKey()
      const first = yield* json.send({ key: other, ...orders[0] })
      expectReplay(yield* json.send({ key: other, ...orders[1] }), first)
      expectProblem(yield* json.send({ key: other, body: '{"a":1,"b":3}' }), problems.reused)
      expect((yield* json.send({ key: other, body: "no JSON" })).status).toBe(400)
      expectProblem(yield* json.send({ key: freshKey(), body: '"\\ud800"' }), problems.unreadable)
      expect(json.runs()).toBe(1)
    }))

  test("a fingerprint can be a plain value or bytes", () =>
    Effect.gen(function* () {
      for (const fingerprint of [() => "same", () => new Uint8Array([1])]) {
        const site = yield* start(mount, numbered(), { fingerprint })
        const key = freshKey()
        const first = yield* site.send({ key, body: "1" })
        expectReplay(yield* site.send({ key, body: "2" }), first)
      }
    }))

  test("who the server does not know is refused before anything is claimed", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, numbered(), {
        scope: (request) => {
          const tenant = request.headers["x-tenant"]
          return tenant === undefined ? Effect.fail(HttpServerResponse.empty({ status: 401 })) : Effect.succeed(tenant)
        }
      })
      const key = freshKey()
      expect((yield* site.send({ key })).status).toBe(401)
      expect(site.runs()).toBe(0)
      expect(Option.isNone(yield* stored("tenant-1", key))).toBe(true)

      const sent = { key, headers: { "x-tenant": "tenant-1" } }
      const first = yield* site.send(sent)
      expect(Option.isSome(yield* stored("tenant-1", key))).toBe(true)
      expectReplay(yield* site.send(sent), first)
      // Another tenant's key is another key.
      const other = yield* site.send({ key, headers: { "x-tenant": "evil" } })
      expect(other.headers["idempotent-replayed"]).toBeUndefined()
      expect(other.text).toBe('{"run":2}')
    }))

  for (const chunked of [false, true]) {
    test(`a request that is too large is refused, ${chunked ? "without" : "with"} a Content-Length`, () =>
      Effect.gen(function* () {
        const site = yield* start(mount, (_, { body }) => ({ body: `${body.length}` }), { maxRequestBytes: 1000 })
        for (const length of [1001, 200_000]) {
          const key = freshKey()
          expectProblem(yield* site.send({ key, chunked, body: "x".repeat(length) }), problems.tooLarge)
        }
        expect(site.runs()).toBe(0)
        expect((yield* site.send({ key: freshKey(), chunked, body: "x".repeat(1000) })).text).toBe("1000")
        expect((yield* site.send({ chunked, body: "x".repeat(200_000) })).text).toBe("200000")
      }))
  }

  test("while the first request is running, others are told when to come back", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      const site = yield* start(mount, (run) => Effect.as(finish.await, numbered()(run)), { lease: "8 seconds" })
      const key = freshKey()
      const running = yield* Effect.fork(site.send({ key }))
      yield* until(() => site.runs() === 1)
      const others = yield* Effect.all(
        Array.from({ length: 49 }, () => site.send({ key })),
        { concurrency: "unbounded" }
      )
      for (const other of others) {
        expectProblem(other, problems.inFlight)
        expect(Number(other.headers["retry-after"])).toBeGreaterThanOrEqual(1)
        expect(Number(other.headers["retry-after"])).toBeLessThanOrEqual(8)
      }
      expectProblem(yield* site.send({ key, body: "other" }), problems.reused)
      yield* finish.open
      const first = yield* running
      expect(first.status).toBe(201)
      expectReplay(yield* site.send({ key }), first)
      expect(site.runs()).toBe(1)
      yield* settled
    }))

  test("or wait for its response", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      const site = yield* start(mount, (run) => Effect.as(finish.await, numbered()(run)), { inFlight: "wait" })
      const key = freshKey()
      const all = yield* Effect.fork(
        Effect.all(
          Array.from({ length: 50 }, () => site.send({ key })),
          { concurrency: "unbounded" }
        )
      )
      yield* until(() => site.runs() === 1)
      yield* Effect.sleep("100 millis")
      yield* finish.open
      const replies = yield* all
      expect(replies.filter(({ headers }) => headers["idempotent-replayed"] === "true").length).toBe(49)
      expect(new Set(replies.map(({ status, text }) => `${status} ${text}`)).size).toBe(1)
      expect(site.runs()).toBe(1)
    }))

  test("waiting has an end", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      const site = yield* start(mount, () => Effect.as(finish.await, {}), {
        inFlight: "wait",
        waitTimeout: "50 millis"
      })
      const key = freshKey()
      const first = yield* Effect.fork(site.send({ key }))
      yield* until(() => site.runs() === 1)
      expectProblem(yield* site.send({ key }), problems.inFlight)
      yield* finish.open
      yield* first
    }))
}
