/** Stores that fail, owners that lose their key, and servers that shut down, for every way to mount. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Completed } from "../../src/internal/protocol.js"
import { makeStore, type ProcessOptions, singleProcess, startProcess } from "../support/engineProcess.js"
import { hanging, refused, unavailable } from "../support/faultyRepository.js"
import { expectProblem, expectReplay, freshKey, numbered, problems, type Site, start, until } from "./fixture.js"
import { cut, firstChunk, type Reply, send, sendAndHold } from "./rawClient.js"
import { type Mount, mounts, type Options } from "./support.js"

/** Short deadlines, so that an outage is noticed soon; and no breaker, so that its end is too. */
const short: ProcessOptions = { storageTimeout: "150 millis", breakerThreshold: 1000 }

const response = { status: 201, headers: { "content-type": "text/plain" }, text: "theirs" }

/** What would be false of another response. */
const ofItsOwn = {
  "content-encoding": "identity",
  "content-language": "en",
  etag: '"own"',
  "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT",
  location: "/charges/own",
  "retry-after": "5",
  "set-cookie": "session=1"
}

/** What another owner of the key has recorded. */
const theirs = (fingerprint?: string): Completed => ({
  _tag: "Completed",
  token: "theirs",
  attempt: 2,
  fingerprint,
  createdAt: 0,
  expiresAt: Number.MAX_SAFE_INTEGER,
  outcome: { _tag: "Success", encoded: JSON.stringify(response) }
})

const siteOn = (mount: Mount, behaviour?: Parameters<typeof start>[1], options?: Partial<Options>, engine = short) =>
  Effect.gen(function* () {
    const { process, store } = yield* singleProcess(engine)
    const site = yield* process.run(start(mount, behaviour, options))
    return { site, process, store }
  })

/** A client that goes away once its request is being handled. */
const sentAndCut = (site: Site, key: string): Effect.Effect<Reply | undefined> =>
  Effect.gen(function* () {
    const outgoing = yield* sendAndHold(site.url, { key })
    yield* until(() => site.runs() === 1)
    yield* cut(outgoing)
    return undefined
  })

for (const mount of mounts) {
  describe(`${mount.name}, when the store fails`, () => {
    it.scopedLive("requests are handled without it", () =>
      Effect.gen(function* () {
        const { process, site } = yield* siteOn(mount)
        const key = freshKey()
        for (const fault of [unavailable, hanging]) {
          yield* process.faults.plan("all", fault)
          const reply = yield* site.send({ key })
          expect(reply.status).toBe(201)
          expect(reply.headers["idempotent-replayed"]).toBeUndefined()
          yield* process.faults.heal
        }
        expect(site.runs()).toBe(2)
        yield* until(() => process.underWay().owners === 0)
      })
    )

    for (const options of [{ onStorageFailure: "fail" }, { guarantee: "at-most-once" }] as const) {
      it.scopedLive(`or refused before anything happens, with ${JSON.stringify(options)}`, () =>
        Effect.gen(function* () {
          const { process, site } = yield* siteOn(mount, numbered(), options)
          const key = freshKey()
          yield* process.faults.plan("all", unavailable)
          const reply = yield* site.send({ key })
          expectProblem(reply, problems.storage)
          expect(Number(reply.headers["retry-after"])).toBeGreaterThanOrEqual(1)
          expect(site.runs()).toBe(0)
          yield* process.faults.heal
          expect((yield* site.send({ key })).status).toBe(201)
        })
      )

      it.scopedLive(`a response that is not recorded is not given, with ${JSON.stringify(options)}`, () =>
        Effect.gen(function* () {
          const headers = { "x-own": "own", ...ofItsOwn }
          const { process, site } = yield* siteOn(mount, numbered({ headers }), { ...options, headers: ["link"] })
          yield* process.faults.plan("complete", unavailable)
          const reply = yield* site.send({ key: freshKey() })
          expect(site.runs()).toBe(1)
          // A stream has been sent by then.
          if (mount.name === "web handler") return expect(reply.status).toBe(201)
          expectProblem(reply, problems.unknown)
          for (const name of Object.keys(ofItsOwn)) expect(reply.headers[name]).toBeUndefined()
          expect(reply.headers["x-own"]).toBe("own")
        })
      )
    }

    it.scopedLive("a response that is not recorded is given", () =>
      Effect.gen(function* () {
        const { process, site } = yield* siteOn(mount)
        yield* process.faults.plan("complete", unavailable)
        expect((yield* site.send({ key: freshKey() })).status).toBe(201)
      })
    )

    it.scopedLive("a response that the store refuses is given, and not replayed", () =>
      Effect.gen(function* () {
        const { process, site } = yield* siteOn(mount, numbered(), {}, { retry: Schedule.stop })
        yield* process.faults.plan("complete", refused("Rejected"), 2)
        const key = freshKey()
        expect((yield* site.send({ key })).status).toBe(201)
        yield* process.faults.heal
        yield* until(() => process.underWay().owners === 0)
        expectProblem(yield* site.send({ key }), problems.notReplayable)
      })
    )

    it.scopedLive("a record that is no response is not replayed", () =>
      Effect.gen(function* () {
        const { process, site } = yield* siteOn(mount)
        const outcome = { _tag: "Success", encoded: '"something else"' } as const
        yield* process.faults.planFor("claim", () =>
          Effect.succeed({ _tag: "Settled", record: { ...theirs(), outcome } })
        )
        expectProblem(yield* site.send({ key: freshKey() }), problems.notReplayable)
        expect(site.runs()).toBe(0)
      })
    )
  })

  describe(`${mount.name}, when the key is lost`, () => {
    const lease = "450 millis"

    it.scopedLive("the winner's response is given if it is there", () =>
      Effect.gen(function* () {
        const { process, site } = yield* siteOn(mount, () => Effect.never, { lease })
        yield* process.faults.planFor("renew", () => Effect.succeed([{ _tag: "Lost", record: theirs() }]))
        const reply = yield* site.send({ key: freshKey() })
        expect(reply.text).toBe("theirs")
        expect(reply.status).toBe(201)
        expect(reply.headers["idempotent-replayed"]).toBe("true")
      })
    )

    it.scopedLive("else the client is told to come back", () =>
      Effect.gen(function* () {
        const { process, site } = yield* siteOn(mount, () => Effect.never, { lease })
        yield* process.faults.planFor("renew", () => Effect.succeed([{ _tag: "Lost", record: undefined }]), 1)
        expectProblem(yield* site.send({ key: freshKey() }), problems.inFlight)
        yield* process.faults.planFor("renew", () => Effect.succeed([{ _tag: "Lost", record: theirs("another") }]), 1)
        expectProblem(yield* site.send({ key: freshKey() }), problems.inFlight)
      })
    )

    it.scopedLive("or waits for the winner, and begins again if that leaves the key", () =>
      Effect.gen(function* () {
        const { process, site } = yield* siteOn(mount, (run) => (run === 1 ? Effect.never : numbered()(run)), {
          lease,
          inFlight: "wait"
        })
        yield* process.faults.planFor("renew", () => Effect.succeed([{ _tag: "Lost", record: undefined }]), 1)
        expect((yield* site.send({ key: freshKey() })).text).toBe('{"run":2}')
      })
    )

    it.scopedLive("after the store was away for a whole lease, the outcome is unknown", () =>
      Effect.gen(function* () {
        const { process, site } = yield* siteOn(mount, () => Effect.never, { lease, guarantee: "at-most-once" })
        yield* process.faults.plan("renew", unavailable)
        const key = freshKey()
        expectProblem(yield* site.send({ key }), problems.unknown)
        yield* process.faults.heal
        expectProblem(yield* site.send({ key }), problems.unknown)
      })
    )

    for (const options of [{}, { headers: ["link"] }]) {
      it.scopedLive(`a response that comes too late is replaced by the winner's, with ${JSON.stringify(options)}`, () =>
        Effect.gen(function* () {
          const headers = { "x-own": "own", ...ofItsOwn }
          const { process, site } = yield* siteOn(mount, numbered({ headers }), options)
          yield* process.faults.planFor("complete", () => Effect.succeed({ _tag: "Superseded", record: theirs() }))
          const reply = yield* site.send({ key: freshKey() })
          if (mount.name === "web handler") return expect(reply.text).toBe('{"run":1}')
          expect(reply.text).toBe("theirs")
          expect(reply.headers["idempotent-replayed"]).toBe("true")
          expect(reply.headers["content-length"]).toBe("6")
          expect(reply.headers["content-type"]).toBe("text/plain")
          for (const name of Object.keys(ofItsOwn)) expect(reply.headers[name]).toBeUndefined()
          expect(reply.headers["x-own"]).toBe("own")
        })
      )
    }
  })

  describe(`${mount.name}, at shutdown`, () => {
    it.scopedLive("a handler whose client has gone has its time to finish", () =>
      Effect.gen(function* () {
        const finish = Effect.unsafeMakeLatch(false)
        const store = yield* makeStore()
        const process = yield* startProcess(store, { shutdownGrace: "10 seconds" })
        const site = yield* process.run(start(mount, (run) => Effect.as(finish.await, numbered()(run))))
        const key = freshKey()
        yield* sentAndCut(site, key)
        yield* Effect.sleep("50 millis")
        const stopping = yield* Effect.fork(process.stop)
        yield* Effect.sleep("50 millis")
        yield* finish.open
        yield* Fiber.join(stopping)

        const next = yield* startProcess(store)
        const again = yield* next.run(start(mount))
        const replay = yield* again.send({ key })
        expect(replay.text).toBe('{"run":1}')
        expect(replay.headers["idempotent-replayed"]).toBe("true")
      })
    )

    it.scopedLive("a stream on its way is not waited for, and not replayed", () =>
      Effect.gen(function* () {
        const store = yield* makeStore()
        const process = yield* startProcess(store, { shutdownGrace: "50 millis", storageTimeout: "3 seconds" })
        const body = Stream.concat(Stream.make(new TextEncoder().encode("one")), Stream.never)
        const site = yield* process.run(start(mount, () => ({ body })))
        const key = freshKey()
        const outgoing = yield* sendAndHold(site.url, { key })
        expect(yield* firstChunk(outgoing)).toBe("one")
        const [took] = yield* Effect.timed(process.stop)
        expect(Duration.toMillis(took)).toBeLessThan(3000)
        yield* cut(outgoing)

        const next = yield* startProcess(store)
        const again = yield* next.run(start(mount))
        expectProblem(yield* again.send({ key }), problems.notReplayable)
      })
    )

    for (const isThere of [true, false]) {
      for (const guarantee of ["at-least-once", "at-most-once"] as const) {
        const client = isThere ? "waits" : "has gone"
        it.scopedLive(`a handler that does not finish is interrupted, ${guarantee}, while its client ${client}`, () =>
          Effect.gen(function* () {
            const store = yield* makeStore()
            const process = yield* startProcess(store, { shutdownGrace: "50 millis" })
            const site = yield* process.run(start(mount, () => Effect.never, { guarantee } as Partial<Options>))
            const key = freshKey()
            const waiting = yield* Effect.fork(isThere ? send(site.url, { key }) : sentAndCut(site, key))
            yield* until(() => site.runs() === 1)
            yield* Effect.sleep("50 millis")
            yield* process.stop
            expect((yield* Fiber.join(waiting))?.status).toBe(isThere ? 503 : undefined)
            expect(process.underWay().owners).toBe(0)

            const next = yield* startProcess(store)
            const again = yield* next.run(start(mount))
            const reply = yield* again.send({ key })
            if (guarantee === "at-most-once") expectProblem(reply, problems.unknown)
            else expectReplay(yield* again.send({ key }), reply)
          })
        )
      }
    }
  })
}
