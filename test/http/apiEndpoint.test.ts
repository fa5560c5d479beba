/** Endpoints that were declared to take keys, over a real socket: beside what the suites of all mounts say of them. */
import { describe, expect, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { layerMemory } from "../../src/layerMemory.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import { singleProcess } from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"
import { expectProblem, expectReplay, freshKey, problems, settled, until } from "./fixture.js"
import { cut, type Reply, send, sendAndHold } from "./rawClient.js"
import { type Charging, Declined, type Options, type Running, receipt, Suspended, startShop, tenant } from "./shop.js"

const sentTo = (shop: Running, sent: Parameters<typeof send>[1] = {}): Effect.Effect<Reply> =>
  send(shop.url, { body: '{"amount":5}', ...sent })

const shopOn = (charging?: Charging, options?: Options) =>
  Effect.gen(function* () {
    const { process, store } = yield* singleProcess({ storageTimeout: "150 millis", breakerThreshold: 1000 })
    const shop = yield* process.run(startShop(charging, options))
    return { shop, process, store }
  })

layer(layerMemory, { excludeTestServices: true })("a declared endpoint", (it) => {
  it.scoped("runs once per key and tenant, and answers later requests with the first response", () =>
    Effect.gen(function* () {
      const shop = yield* startShop()
      const key = freshKey()
      const first = yield* sentTo(shop, { key })
      expect(first.status).toBe(201)
      expect(JSON.parse(first.text)).toEqual({ run: 1, amount: 5, attempt: 1 })
      expectReplay(yield* sentTo(shop, { key }), first)
      expectProblem(yield* sentTo(shop, { key, body: '{"amount":6}' }), problems.reused)
      const other = yield* sentTo(shop, { key, headers: { "x-tenant": "other" } })
      expect(JSON.parse(other.text).run).toBe(2)
      expect(shop.runs()).toBe(2)
    })
  )

  it.scoped("says itself whether a key is required, in which header, and what the operation is", () =>
    Effect.gen(function* () {
      const shop = yield* startShop()
      expectProblem(yield* sentTo(shop), problems.missing)
      expectProblem(yield* sentTo(shop, { key: "a, b" }), problems.invalid)
      expect(shop.runs()).toBe(0)
      const key = freshKey()
      const refund = { path: "/charges/7/refunds", headers: { "x-request-key": key } }
      const first = yield* sentTo(shop, refund)
      expect(JSON.parse(first.text)).toEqual({ refunded: 7, attempt: 1 })
      expectReplay(yield* sentTo(shop, refund), first)
      // Another path is another request to the same operation.
      expectProblem(yield* sentTo(shop, { ...refund, path: "/charges/8/refunds" }), problems.reused)
      expect((yield* sentTo(shop, { path: "/charges/7/refunds", key })).headers["idempotent-replayed"]).toBeUndefined()
      expect(shop.runs()).toBe(2)
    })
  )

  it.scoped(
    "that has run and whose value its schema refuses has failed: under at-most-once it does not run again",
    () =>
      Effect.gen(function* () {
        const shop = yield* startShop((run, amount) => Effect.succeed({ run: run + 0.5, amount, attempt: 1 }), {
          scope: tenant,
          guarantee: "at-most-once"
        })
        const key = freshKey()
        expect((yield* sentTo(shop, { key })).status).toBe(500)
        expectProblem(yield* sentTo(shop, { key }), problems.unknown)
        expect(shop.runs()).toBe(1)
      })
  )

  it.scoped("leaves other endpoints alone", () =>
    Effect.gen(function* () {
      const shop = yield* startShop()
      const key = freshKey()
      for (const sent of [{ method: "GET" }, { path: "/notes", body: '{"text":"hi"}' }]) {
        const one = yield* sentTo(shop, { ...sent, key })
        const two = yield* sentTo(shop, { ...sent, key })
        expect([one.status, two.status]).toEqual([200, 200])
        expect(two.text).not.toBe(one.text)
        expect(two.headers["idempotent-replayed"]).toBeUndefined()
      }
      expect((yield* sentTo(shop, { key, path: "/nowhere" })).status).toBe(404)
    })
  )

  it.scoped("tells others to come back while the first request is running, and records it though its client left", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      const shop = yield* startShop((run, amount) => Effect.zipRight(finish.await, receipt(run, amount)))
      const key = freshKey()
      const outgoing = yield* sendAndHold(shop.url, { key, body: '{"amount":5}' })
      yield* until(() => shop.runs() === 1)
      const refused = yield* sentTo(shop, { key })
      expectProblem(refused, problems.inFlight)
      expect(Number(refused.headers["retry-after"])).toBeGreaterThanOrEqual(1)
      yield* cut(outgoing)
      yield* Effect.sleep("30 millis")
      expectProblem(yield* sentTo(shop, { key }), problems.inFlight)
      yield* finish.open
      yield* settled
      const replay = yield* sentTo(shop, { key })
      expect(replay.status).toBe(201)
      expect(replay.headers["idempotent-replayed"]).toBe("true")
      expect(replay.headers["content-type"]).toBe("application/json")
      expect(JSON.parse(replay.text)).toEqual({ run: 1, amount: 5, attempt: 1 })
      expect(shop.runs()).toBe(1)
    })
  )

  for (const [declared, error, status] of [
    ["the endpoint", new Declined({ reason: "funds" }), 402],
    ["the API", new Suspended({ tenant: "default" }), 403]
  ] as const) {
    for (const hasLeft of [false, true]) {
      const isKnown = !hasLeft || declared === "the endpoint"
      it.scoped(`an error of ${declared} is a response${hasLeft ? ", for a client that has left" : ""}`, () =>
        Effect.gen(function* () {
          const finish = Effect.unsafeMakeLatch(!hasLeft)
          const seen: Array<number> = []
          const shop = yield* startShop(() => Effect.zipRight(finish.await, Effect.fail(error)), {
            scope: tenant,
            onResponse: (response) => {
              seen.push(response.status)
              return "replay"
            }
          })
          const key = freshKey()
          const outgoing = yield* sendAndHold(shop.url, { key, body: '{"amount":5}' })
          yield* until(() => shop.runs() === 1)
          if (hasLeft) yield* cut(outgoing)
          yield* Effect.sleep("30 millis")
          yield* finish.open
          yield* settled
          const next = yield* sentTo(shop, { key })
          expect(next.status).toBe(status)
          expect(JSON.parse(next.text)._tag).toBe(error._tag)
          // What a group does not know of its API's errors is not recorded for want of somebody to send it to.
          expect(next.headers["idempotent-replayed"]).toBe(isKnown ? "true" : undefined)
          expect(shop.runs()).toBe(isKnown ? 1 : 2)
          expect(seen).toEqual([status])
        })
      )
    }
  }

  it.scoped("reads a form once, and gives the handler its files for as long as it runs", () =>
    Effect.gen(function* () {
      const shop = yield* startShop()
      const form = (text: string) =>
        `--x\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\ncontent-type: text/plain\r\n\r\n${text}\r\n--x--\r\n`
      const headers = { "content-type": "multipart/form-data; boundary=x" }
      const key = freshKey()
      const sent = { path: "/uploads", headers, body: form("hello") }
      const first = yield* sentTo(shop, { ...sent, key })
      expect(first.text).toBe("1:hello")
      expectReplay(yield* sentTo(shop, { ...sent, key }), first)
      expectProblem(yield* sentTo(shop, { ...sent, key, body: form("bye") }), problems.reused)
      expect((yield* sentTo(shop, sent)).text).toBe("2:hello")
    })
  )

  it.scoped("refuses a request that is too large, before it is decoded", () =>
    Effect.gen(function* () {
      const shop = yield* startShop(receipt, { scope: tenant, maxRequestBytes: 1000 })
      for (const chunked of [false, true]) {
        expectProblem(yield* sentTo(shop, { key: freshKey(), chunked, body: "x".repeat(1001) }), problems.tooLarge)
      }
      expect(shop.runs()).toBe(0)
    })
  )

  it.scoped("has what HttpApiMiddleware refuses outside", () =>
    Effect.gen(function* () {
      const shop = yield* startShop()
      const refused = yield* sentTo(shop, { key: freshKey(), headers: { "x-tenant": "nobody" } })
      expect(refused.status).toBe(401)
      expect(JSON.parse(refused.text)._tag).toBe("Unauthorized")
    })
  )

  it.scoped("lets handlers record steps", () =>
    Effect.gen(function* () {
      let steps = 0
      const shop = yield* startShop((run, amount) =>
        Effect.gen(function* () {
          yield* Effect.sync(() => ++steps).pipe(withIdempotentStep("reserve"), Effect.orDie)
          return yield* run === 1 ? Effect.fail(new Declined({ reason: "later" })) : receipt(run, amount)
        })
      )
      const key = freshKey()
      expect((yield* sentTo(shop, { key })).status).toBe(402)
      expect(JSON.parse((yield* sentTo(shop, { key })).text)).toMatchObject({ run: 2, attempt: 2 })
      expect(steps).toBe(1)
    })
  )
})

describe("a declared endpoint and its store", () => {
  it.scopedLive("a request that does not decode is refused before anything is claimed", () =>
    Effect.gen(function* () {
      const { process, shop } = yield* shopOn()
      const key = freshKey()
      for (const body of ['{"amount":-1}', '{"amount":"5"}', "{}", "no JSON"]) {
        const refused = yield* sentTo(shop, { key, body })
        expect(refused.status).toBe(400)
        expect(refused.headers["content-type"]).not.toBe("application/problem+json")
      }
      const path = "/charges/seven/refunds"
      expect((yield* sentTo(shop, { path, headers: { "x-request-key": key } })).status).toBe(400)
      expect(process.faults.calls()).toEqual([])
      expect(shop.runs()).toBe(0)
      expect((yield* sentTo(shop, { key })).status).toBe(201)
      expect(process.faults.calls("claim")).toHaveLength(1)
      // Neither does one that comes later change what there is.
      expect((yield* sentTo(shop, { key, body: '{"amount":-1}' })).status).toBe(400)
      expect((yield* sentTo(shop, { key })).headers["idempotent-replayed"]).toBe("true")
    })
  )

  it.scopedLive("what scope fails with is answered as the API declares it, and nothing is claimed", () =>
    Effect.gen(function* () {
      const { process, shop } = yield* shopOn(receipt, { scope: () => Effect.fail(new Suspended({ tenant: "t" })) })
      const refused = yield* sentTo(shop, { key: freshKey() })
      expect(refused.status).toBe(403)
      expect(JSON.parse(refused.text)).toEqual({ _tag: "Suspended", tenant: "t" })
      expect(process.faults.calls()).toEqual([])
    })
  )

  it.scopedLive("a request is handled without the store, or refused", () =>
    Effect.gen(function* () {
      const free = yield* shopOn()
      yield* free.process.faults.plan("all", unavailable)
      expect((yield* sentTo(free.shop, { key: freshKey() })).status).toBe(201)
      const strict = yield* shopOn(receipt, { scope: tenant, onStorageFailure: "fail" })
      yield* strict.process.faults.plan("all", unavailable)
      expectProblem(yield* sentTo(strict.shop, { key: freshKey() }), problems.storage)
      expect(strict.shop.runs()).toBe(0)
    })
  )

  it.scopedLive("under at-most-once, a run without a response is not repeated", () =>
    Effect.gen(function* () {
      const { shop } = yield* shopOn(() => Effect.dieMessage("broken"), { scope: tenant, guarantee: "at-most-once" })
      const key = freshKey()
      expect((yield* sentTo(shop, { key })).status).toBe(500)
      expectProblem(yield* sentTo(shop, { key }), problems.unknown)
      expect(shop.runs()).toBe(1)
    })
  )
})
