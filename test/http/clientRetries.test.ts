/** What the client sends again, and when, over real sockets. */
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { HttpIdempotencyClient, type HttpIdempotencyClientOptions } from "../../src/http/HttpIdempotencyClient.js"
import { atOnce, connect, distinct } from "../support/keyedClient.js"
import type { Answer } from "../support/scriptedServer.js"

const aTurn = Effect.promise(() => new Promise((resolve) => setTimeout(resolve)))

/** Runs the effect; whenever it does nothing but sleep, the clock goes to the next instant that something waits for. */
const jumping = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.fork(effect)
    let before: Chunk.Chunk<number> = Chunk.empty()
    while (Option.isNone(yield* Fiber.poll(fiber))) {
      yield* aTurn
      const sleeps = yield* TestClock.sleeps()
      if (Chunk.isNonEmpty(sleeps) && Equal.equals(sleeps, before)) yield* TestClock.setTime(Math.min(...sleeps))
      before = sleeps
    }
    return yield* Fiber.join(fiber)
  })

/** When each try of one request was made, in milliseconds. */
const triesOf = (options: HttpIdempotencyClientOptions, ...answers: ReadonlyArray<Answer>) =>
  Effect.gen(function* () {
    const { server, plain } = yield* connect()
    server.answer(...answers)
    const tries: Array<number> = []
    const start = yield* Clock.currentTimeMillis
    const client = plain.pipe(
      HttpClient.tapRequest(() => Effect.map(Clock.currentTimeMillis, (now) => tries.push(now - start))),
      HttpIdempotencyClient.withIdempotencyKey(options)
    )
    const { status } = yield* jumping(client.post("/"))
    return { tries, status }
  })

it.layer(NodeHttpClient.layer)("HttpIdempotencyClient", (it) => {
  describe("what is sent again", () => {
    const final: ReadonlyArray<Answer> = [
      { status: 201 },
      { status: 400 },
      { status: 409 },
      { status: 409, headers: { "retry-after": "soon" } },
      { status: 422, headers: { "retry-after": "0" } },
      { status: 500, headers: { "idempotent-replayed": "true" } }
    ]
    it.scoped.each(final)("a final answer is returned: %j", (answer) =>
      Effect.gen(function* () {
        const { server, client } = yield* connect()
        server.answer(answer)
        const { status } = yield* client.post("/")
        expect({ status }).toMatchObject(typeof answer === "string" ? {} : { status: answer.status })
        expect(server.received).toHaveLength(1)
      })
    )

    it.scoped("when the tries run out, the last answer is returned unread", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect({ ...atOnce, maxRetries: 2 })
        server.answer({ status: 500 }, { status: 429 }, { status: 503, body: "try later" })
        const response = yield* client.post("/")
        expect([response.status, yield* response.text]).toEqual([503, "try later"])
        expect(server.received).toHaveLength(3)
      })
    )

    it.scoped("when the tries run out, the last error is the client's own", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect({ ...atOnce, maxRetries: 2 })
        server.answer("drop", { status: 503 }, "drop")
        const error = yield* Effect.flip(client.post("/"))
        expect(error).toMatchObject({ _tag: "RequestError", reason: "Transport" })
        expect(server.received).toHaveLength(3)
      })
    )

    it.scoped("errors of a client that refuses statuses count as their responses, timeouts as no answer", () =>
      Effect.gen(function* () {
        const { server, plain } = yield* connect()
        server.answer({ status: 503 }, { status: 200, body: "too late" }, { status: 404 })
        let timesOut = true
        const client = plain.pipe(
          HttpClient.filterStatusOk,
          HttpClient.transformResponse(
            Effect.tap(() => {
              const wasOut = timesOut
              timesOut = false
              return wasOut ? Effect.fail(new Cause.TimeoutException()) : Effect.void
            })
          ),
          HttpIdempotencyClient.withIdempotencyKey(atOnce)
        )
        const error = yield* Effect.flip(client.post("/"))
        expect(error).toMatchObject({ _tag: "ResponseError", reason: "StatusCode", response: { status: 404 } })
        expect(server.received).toHaveLength(3)
        expect(distinct(server.keys())).toBe(1)
      })
    )

    it.scoped("a stream gets a key, and is not sent again; other bodies are", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect()
        const bytes = new TextEncoder().encode("stream")
        const bodies: ReadonlyArray<readonly [body: HttpBody.HttpBody, tries: number]> = [
          [HttpBody.stream(Stream.make(bytes)), 1],
          [HttpBody.empty, 2],
          [HttpBody.raw("text"), 2],
          [HttpBody.raw(bytes), 2],
          [HttpBody.uint8Array(bytes), 2]
        ]
        for (const [body, tries] of bodies) {
          const before = server.received.length
          server.answer({ status: 503 })
          const { status } = yield* client.post("/", { body })
          expect([body._tag, status, server.received.length - before]).toEqual([
            body._tag,
            tries === 1 ? 503 : 200,
            tries
          ])
        }
        expect(distinct(server.keys())).toBe(bodies.length)
      })
    )
  })

  describe("waits", () => {
    const never = { schedule: Schedule.stop }
    const cases: ReadonlyArray<
      readonly [what: string, HttpIdempotencyClientOptions, Answer, { tries: ReadonlyArray<number>; status: number }]
    > = [
      ["for the seconds", atOnce, { status: 503, headers: { "retry-after": "7" } }, { tries: [0, 7_000], status: 200 }],
      [
        "for the date, by the server's clock",
        atOnce,
        {
          status: 409,
          headers: { date: "Fri, 31 Dec 1999 23:59:59 GMT", "retry-after": "Sat, 01 Jan 2000 00:00:04 GMT" }
        },
        { tries: [0, 5_000], status: 200 }
      ],
      [
        "for a date in the past",
        atOnce,
        { status: 429, headers: { "retry-after": "Sunday, 06-Nov-94 08:49:37 GMT" } },
        { tries: [0, 0], status: 200 }
      ],
      [
        "for the schedule's delay, if that is longer",
        { schedule: Schedule.spaced("3 seconds") },
        { status: 503, headers: { "retry-after": "2" } },
        { tries: [0, 3_000], status: 200 }
      ],
      [
        "not for a date that cannot be read",
        atOnce,
        { status: 503, headers: { "retry-after": "Mon, tomorrow" } },
        { tries: [0, 0], status: 200 }
      ],
      [
        "not beyond the bound",
        { ...atOnce, maxRetryAfter: "10 seconds" },
        { status: 503, headers: { "retry-after": "11" } },
        { tries: [0], status: 503 }
      ],
      [
        "not after the schedule's end",
        never,
        { status: 503, headers: { "retry-after": "1" } },
        { tries: [0], status: 503 }
      ]
    ]
    it.scoped.each(cases)("%s", ([, options, answer, expected]) =>
      Effect.gen(function* () {
        expect(yield* triesOf(options, answer)).toEqual(expected)
      })
    )

    it.scoped("250 ms by default, doubled each time, within a fifth", () =>
      Effect.gen(function* () {
        const { tries, status } = yield* triesOf({}, ...Array.from({ length: 5 }, () => ({ status: 503 })))
        expect(status).toBe(503)
        const waits = tries.slice(1).map((at, index) => (at - (tries[index] ?? 0)) / (250 * 2 ** index))
        expect(waits).toHaveLength(4)
        for (const wait of waits) expect(Math.abs(wait - 1)).toBeLessThanOrEqual(0.21)
      })
    )
  })
})

it.layer(NodeHttpClient.layerWithoutAgent.pipe(Layer.provide(NodeHttpClient.makeAgentLayer({ maxSockets: 1 }))))(
  "with one connection",
  (it) => {
    it.scoped("an answer that is replaced frees its connection", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect()
        server.answer({ status: 503, body: "x".repeat(1_000_000) }, { status: 500, body: "x".repeat(1_000_000) })
        expect((yield* client.post("/")).status).toBe(200)
        expect(server.received).toHaveLength(3)
      })
    )
  }
)
