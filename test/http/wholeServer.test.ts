/** The middleware around a whole server: the sending of a response is within what it protects. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import { layerMemory } from "../../src/layerMemory.js"
import { expectProblem, expectReplay, freshKey, problems, settled, until } from "./fixture.js"
import { cut, firstChunk, send, sendAndHold } from "./rawClient.js"
import { listen } from "./support.js"

const around = HttpIdempotency.middleware({ scope: "global", operation: "charges" })

describe("around a whole server", () => {
  it.scopedLive("a handler runs once per key", () =>
    Effect.gen(function* () {
      let runs = 0
      const app = Effect.suspend(() => HttpServerResponse.text(`${++runs}`))
      const url = yield* listen(app, around)
      const key = freshKey()
      const first = yield* send(url, { key })
      expectReplay(yield* send(url, { key }), first)
      expect(runs).toBe(1)
      yield* settled
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("a stream whose client leaves is ended, and its key is not left in flight", () =>
    Effect.gen(function* () {
      const isEnded = Effect.unsafeMakeLatch(false)
      const chunks = Stream.concat(Stream.succeed(new TextEncoder().encode("first")), Stream.never)
      const app = Effect.succeed(HttpServerResponse.stream(Stream.ensuring(chunks, isEnded.open)))
      const url = yield* listen(app, around)
      const key = freshKey()
      const outgoing = yield* sendAndHold(url, { key })
      expect(yield* firstChunk(outgoing)).toBe("first")
      yield* cut(outgoing)
      yield* isEnded.await
      yield* settled
      expectProblem(yield* send(url, { key }), problems.notReplayable)
    }).pipe(Effect.provide(layerMemory))
  )

  for (const [kind, response] of [
    ["text", HttpServerResponse.text("done")],
    ["a stream", HttpServerResponse.stream(Stream.succeed(new TextEncoder().encode("done")))]
  ] as const) {
    it.scopedLive(`a handler whose client leaves runs to its end, which is ${kind}, and its scope is closed`, () =>
      Effect.gen(function* () {
        const finish = Effect.unsafeMakeLatch(false)
        let runs = 0
        let isClosed = false
        const app = Effect.gen(function* () {
          runs++
          yield* Effect.addFinalizer(() =>
            Effect.sync(() => {
              isClosed = true
            })
          )
          yield* finish.await
          return response
        })
        const url = yield* listen(app, around)
        const key = freshKey()
        const outgoing = yield* sendAndHold(url, { key })
        yield* until(() => runs === 1)
        yield* cut(outgoing)
        yield* Effect.sleep("30 millis")
        yield* finish.open
        yield* until(() => isClosed)
        yield* settled
        const replay = yield* send(url, { key })
        expect([replay.text, replay.headers["idempotent-replayed"], runs]).toEqual(["done", "true", 1])
      }).pipe(Effect.provide(layerMemory))
    )
  }
})
