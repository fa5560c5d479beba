/** What is recorded, and how it comes back. */
import { gzipSync } from "node:zlib"
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
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
import { cut, firstChunk, sendAndHold } from "./rawClient.js"
import type { Mount } from "./support.js"

const encoder = new TextEncoder()
const everyByte = Uint8Array.from({ length: 256 }, (_, byte) => byte)

export const replayCases = (test: Case, mount: Mount): void => {
  test("a second request gets the first one's response", () =>
    Effect.gen(function* () {
      const headers = {
        "content-type": "application/json; charset=utf-8",
        "content-language": "en",
        location: "/charges/1",
        etag: '"1"',
        link: "</charges>; rel=up",
        "cache-control": "no-store",
        "x-own": "not kept"
      }
      const site = yield* start(mount, numbered({ headers }))
      const key = freshKey()
      const first = yield* site.send({ key })
      const second = yield* site.send({ key })
      expectReplay(second, first)
      expect(first.text).toBe('{"run":1}')
      expect(first.headers["x-own"]).toBe("not kept")
      expect(second.headers["x-own"]).toBeUndefined()
      expect(site.runs()).toBe(1)
      yield* settled
    }))

  test("quoted and bare, with and without parameters, a key is one key", () =>
    Effect.gen(function* () {
      const site = yield* start(mount)
      const key = freshKey()
      const first = yield* site.send({ key: `"${key}"` })
      for (const spelling of [key, `"${key}"`, `  ${key}`, `"${key}";v=1`]) {
        expectReplay(yield* site.send({ key: spelling }), first)
      }
      expect(site.runs()).toBe(1)
    }))

  test("without a key requests pass through, as do those of other methods", () =>
    Effect.gen(function* () {
      const site = yield* start(mount)
      const key = freshKey()
      for (const sent of [{}, {}, { method: "GET", key }, { method: "GET", key }, { method: "PUT", key }]) {
        expect((yield* site.send(sent)).headers["idempotent-replayed"]).toBeUndefined()
      }
      expect(site.runs()).toBe(5)
      const patched = yield* site.send({ method: "PATCH", key })
      expectReplay(yield* site.send({ method: "PATCH", key }), patched)
    }))

  test("the methods, the header and the replay's header can be others", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, numbered(), {
        methods: ["PUT"],
        header: "X-Request-Key",
        replayedHeader: "X-Replayed"
      })
      const sent = { method: "PUT", headers: { "x-request-key": freshKey() } }
      const one = yield* site.send(sent)
      const two = yield* site.send(sent)
      expect(one.headers["x-replayed"]).toBeUndefined()
      expect(two.headers["x-replayed"]).toBe("true")
      expect(two.text).toBe(one.text)
      yield* site.send({ key: freshKey() })
      expect(site.runs()).toBe(2)
    }))

  test("listed headers are kept, and those that may not be are not", () =>
    Effect.gen(function* () {
      const never = {
        "set-cookie": "session=1",
        "www-authenticate": "Basic",
        "ratelimit-remaining": "1",
        "x-ratelimit-limit": "5",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-b3-traceid": "463ac35c9f6413ad48485a3953bb6124"
      }
      const site = yield* start(mount, numbered({ headers: { "x-own": "kept", ...never } }), {
        headers: ["X-Own", "Date", "Content-Length", ...Object.keys(never)]
      })
      const key = freshKey()
      const one = yield* site.send({ key })
      const two = yield* site.send({ key })
      expect(two.headers["idempotent-replayed"]).toBe("true")
      expect(two.headers["x-own"]).toBe("kept")
      for (const name of Object.keys(never)) {
        expect(one.headers[name]).toBeDefined()
        expect(two.headers[name]).toBeUndefined()
      }
    }))

  const gzip = new Uint8Array(gzipSync("a".repeat(1000)))
  const gzipped = { "content-encoding": "gzip", "content-type": "text/plain" }
  for (const [what, body, headers, options] of [
    ["all bytes", everyByte, { "content-type": "application/octet-stream" }, {}],
    ["gzip", gzip, gzipped, {}],
    ["gzip, whatever headers are listed,", gzip, gzipped, { headers: ["x-own"] }],
    ["text with a byte order mark, controls and astral characters", "\ufeff\u0000\u001f é \u{1f600}", {}, {}],
    ["nothing", undefined, { "content-type": "text/plain" }, {}]
  ] as const) {
    test(`${what} come back byte for byte`, () =>
      Effect.gen(function* () {
        const answer = body === undefined ? { headers } : { headers, body }
        const site = yield* start(mount, () => answer, options)
        const key = freshKey()
        const one = yield* site.send({ key })
        const two = yield* site.send({ key })
        expectReplay(two, one)
        expect(two.headers["content-encoding"]).toBe(one.headers["content-encoding"])
        expect(one.body.equals(Buffer.from(body ?? ""))).toBe(true)
      }))
  }

  test("a response without content comes back without content", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, () => ({ status: 204 }))
      const key = freshKey()
      expectReplay(yield* second(site.send({ key })), yield* site.send({ key: freshKey() }))
      expect(site.runs()).toBe(2)
    }))

  test("a stream arrives as it is made, and comes back whole", () =>
    Effect.gen(function* () {
      const rest = Effect.unsafeMakeLatch(false)
      const body = Stream.make("one ").pipe(
        Stream.concat(Stream.fromEffect(Effect.as(rest.await, "two"))),
        Stream.map((text) => encoder.encode(text))
      )
      const site = yield* start(mount, () => ({ headers: { "content-type": "text/plain" }, body }))
      const key = freshKey()
      const outgoing = yield* sendAndHold(site.url, { key })
      expect(yield* firstChunk(outgoing)).toBe("one ")
      // The lease is kept while it is being sent.
      expectProblem(yield* site.send({ key }), problems.inFlight)
      yield* rest.open
      yield* settled
      const replay = yield* site.send({ key })
      expect(replay.text).toBe("one two")
      expect(replay.headers["idempotent-replayed"]).toBe("true")
      expect(replay.headers["content-type"]).toBe("text/plain")
      expect(site.runs()).toBe(1)
    }))

  for (const [what, body] of [
    ["response", "x".repeat(1001)],
    ["stream", Stream.range(1, 1001).pipe(Stream.map(() => encoder.encode("x")))]
  ] as const) {
    test(`a ${what} that is too large arrives whole, and is not replayed`, () =>
      Effect.gen(function* () {
        const site = yield* start(mount, () => ({ body }), { maxResponseBytes: 1000 })
        const key = freshKey()
        expect((yield* site.send({ key })).body.length).toBe(1001)
        expectProblem(yield* site.send({ key }), problems.notReplayable)
        expect(site.runs()).toBe(1)
        yield* settled
      }))

    test(`a ${what} just within the limit is replayed`, () =>
      Effect.gen(function* () {
        const site = yield* start(mount, () => ({ body }), { maxResponseBytes: 1001 })
        const key = freshKey()
        const one = yield* site.send({ key })
        expectReplay(yield* site.send({ key }), one)
      }))
  }

  test("a stream that fails, or whose client goes away, is not replayed", () =>
    Effect.gen(function* () {
      const isRead = Effect.unsafeMakeLatch(false)
      const endings = [Stream.fromEffect(Effect.zipRight(isRead.await, Effect.fail("broken"))), Stream.never]
      const site = yield* start(mount, (run) => ({
        body: Stream.concat(Stream.make(encoder.encode("one")), endings[run - 1] ?? Stream.empty)
      }))
      for (const key of [freshKey(), freshKey()]) {
        const outgoing = yield* sendAndHold(site.url, { key })
        expect(yield* firstChunk(outgoing)).toBe("one")
        if (site.runs() === 1) yield* isRead.open
        else yield* cut(outgoing)
        yield* settled
        expectProblem(yield* site.send({ key }), problems.notReplayable)
      }
      expect(site.runs()).toBe(2)
    }))

  test("a client that goes away does not stop the handler, and finds its response later", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      let isDone = false
      const site = yield* start(mount, (run) =>
        Effect.zipRight(
          finish.await,
          Effect.sync(() => {
            isDone = true
            return numbered()(run)
          })
        )
      )
      const key = freshKey()
      const outgoing = yield* sendAndHold(site.url, { key })
      yield* until(() => site.runs() === 1)
      yield* cut(outgoing)
      yield* Effect.sleep("50 millis")
      expectProblem(yield* site.send({ key }), problems.inFlight)
      yield* finish.open
      yield* until(() => isDone)
      yield* settled
      const replay = yield* site.send({ key })
      expect(replay.headers["idempotent-replayed"]).toBe("true")
      expect(replay.status).toBe(201)
      expect(replay.text).toBe('{"run":1}')
      expect(site.runs()).toBe(1)
    }))

  test("a client that goes away leaves a stream to be recorded, if it had not begun", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      const body = Stream.make("one ", "two").pipe(Stream.map((text) => encoder.encode(text)))
      const site = yield* start(mount, () => Effect.as(finish.await, { body }))
      const key = freshKey()
      const outgoing = yield* sendAndHold(site.url, { key })
      yield* until(() => site.runs() === 1)
      yield* cut(outgoing)
      yield* Effect.sleep("50 millis")
      yield* finish.open
      yield* settled
      expect((yield* site.send({ key })).text).toBe("one two")
    }))
}

/** The reply to the second of two equal requests. */
const second = <A>(request: Effect.Effect<A>): Effect.Effect<A> => Effect.zipRight(request, request)
