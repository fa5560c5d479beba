/** Requests within a protected effect: a re-run sends the same keys, and no two intended requests share one. */
import * as HttpBody from "@effect/platform/HttpBody"
import type * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { HttpIdempotencyClient } from "../../src/http/HttpIdempotencyClient.js"
import type { Idempotency } from "../../src/Idempotency.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { CurrentStep } from "../../src/internal/currentStep.js"
import { layerMemory } from "../../src/layerMemory.js"
import { withIdempotency } from "../../src/withIdempotency.js"
import { atOnce, connect, distinct, once } from "../support/keyedClient.js"

/** A protected effect in a process of its own, with a store of its own: all that it shares with others is its key. */
const inProcess = <A, E>(effect: Effect.Effect<A, E, Idempotency | IdempotentExecution>, key = "order-1") =>
  Effect.scoped(effect.pipe(Effect.asVoid, withIdempotency("checkout", key), Effect.provide(layerMemory)))

const json = (body: unknown) => ({ body: HttpBody.unsafeJson(body) })

/** What a step tells those who run within it. */
const inStep =
  (name: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.flatMap(IdempotentExecution, (execution) => Effect.provideService(effect, CurrentStep, { execution, name }))

it.layer(NodeHttpClient.layer)("HttpIdempotencyClient within a protected effect", (it) => {
  it.scoped("a crash and a re-run send the same keys; identical requests do not share one", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect()
      const requests = [
        client.post("/charges", json({ amount: 1 })),
        client.post("/charges", json({ amount: 1 })),
        client.post("/charges", json({ amount: 2 })),
        client.put("/charges", json({ amount: 1 })),
        client.post("/refunds", json({ amount: 1 })),
        client.post("/charges", { ...json({ amount: 1 }), urlParams: { dry: "1" } }),
        client.post("/charges"),
        client.post("/charges", { body: HttpBody.stream(Stream.make(new Uint8Array([1]))) })
      ]
      let runs = 0
      const crashesOnce = Effect.suspend(() =>
        Effect.zipRight(Effect.all(requests), ++runs === 1 ? Effect.fail("crash") : Effect.void)
      )
      yield* Effect.scoped(
        Effect.retry(crashesOnce.pipe(withIdempotency("checkout", "order-1")), { times: 1 }).pipe(
          Effect.provide(layerMemory)
        )
      )
      const keys = server.keys()
      expect(keys.slice(requests.length)).toEqual(keys.slice(0, requests.length))
      expect([keys.length, distinct(keys)]).toEqual([2 * requests.length, requests.length])
    })
  )

  it.scoped("requests keep their keys in whatever order they are sent", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect()
      const requests = Effect.sync(() => [
        client.post("/a"),
        client.put("/a"),
        client.post("/b"),
        client.post("/a", { urlParams: { page: "1" } }),
        client.post("/a", json({ amount: 1 })),
        client.post("/a", json({ amount: 2 }))
      ])
      yield* inProcess(Effect.flatMap(requests, Effect.all))
      yield* inProcess(Effect.flatMap(requests, (requests) => Effect.all(requests.reverse())))
      const keys = server.keys()
      expect(keys.slice(6).reverse()).toEqual(keys.slice(0, 6))
      expect(distinct(keys)).toBe(6)
    })
  )

  it.scoped("another process sends the same keys, for another key others", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect()
      const checkout = Effect.suspend(() => Effect.zipRight(client.post("/"), client.post("/")))
      yield* inProcess(checkout)
      yield* inProcess(checkout)
      yield* inProcess(checkout, "order-2")
      const [a, b, ...others] = server.keys()
      expect(others.slice(0, 2)).toEqual([a, b])
      expect(distinct(server.keys())).toBe(4)
    })
  )

  it.scoped("a stop in the middle changes nothing for what follows", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect(once)
      const checkout = Effect.suspend(() => Effect.all(Array.from({ length: 3 }, () => client.post("/"))))
      server.answer({ status: 200 }, "drop")
      yield* Effect.exit(inProcess(checkout))
      yield* inProcess(checkout)
      const keys = server.keys()
      expect(keys.slice(2)).toEqual([...keys.slice(0, 2), keys[4]])
      expect(distinct(keys)).toBe(3)
    })
  )

  it.scoped("clients that are made for each call count together", () =>
    Effect.gen(function* () {
      const { server, plain } = yield* connect()
      const post = Effect.suspend(() => plain.pipe(HttpIdempotencyClient.withIdempotencyKey(atOnce)).post("/"))
      yield* inProcess(Effect.zipRight(post, post))
      yield* inProcess(Effect.zipRight(post, post))
      const keys = server.keys()
      expect(keys.slice(2)).toEqual(keys.slice(0, 2))
      expect(distinct(keys)).toBe(2)
    })
  )

  it.scoped("one effect sends one key in a run, and the key of each run that it is part of", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect()
      const send = client.post("/")
      yield* inProcess(Effect.zipRight(send, send))
      yield* inProcess(send)
      yield* inProcess(send, "order-2")
      yield* send
      const [first, again, rerun, ...others] = server.keys()
      expect([again, rerun]).toEqual([first, first])
      expect(distinct(server.keys())).toBe(1 + others.length)
    })
  )

  it.scoped("a call without a final answer leaves its key to the next identical call", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect(once)
      const post = Effect.suspend(() => client.post("/"))
      server.answer("drop", { status: 503 }, { status: 402 })
      yield* inProcess(
        Effect.gen(function* () {
          yield* Effect.retry(post, { times: 1 })
          yield* post
          yield* post
        })
      )
      const [dropped, unavailable, refused, other] = server.keys()
      expect([unavailable, refused]).toEqual([dropped, dropped])
      expect(other).not.toBe(dropped)
    })
  )

  it.scoped("a call that is tried again when another has its key takes the next", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect(once)
      server.answer("drop")
      yield* inProcess(
        Effect.gen(function* () {
          const [late, other] = [client.post("/"), client.post("/")]
          yield* Effect.exit(late)
          yield* other
          yield* late
          yield* late
        })
      )
      const [dropped, taken, next, again] = server.keys()
      expect(taken).toBe(dropped)
      expect(again).toBe(next)
      expect(next).not.toBe(dropped)
    })
  )

  it.scoped("concurrent identical calls end with a key each, whichever of them fail", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect(once)
      const count = 12
      for (let i = 0; i < count; i++) server.answer("drop", { status: 200 }, { status: 503 })
      const answered: Array<string> = []
      const post = (client: HttpClient.HttpClient, isSameEffect: boolean) => {
        const send = isSameEffect ? client.post("/") : Effect.suspend(() => client.post("/"))
        return send.pipe(
          Effect.filterOrFail(({ status }) => status === 200),
          Effect.tap(({ request }) => answered.push(request.headers["idempotency-key"] ?? "")),
          Effect.retry({ times: 1_000 })
        )
      }
      const calls = Array.from({ length: count }, (_, index) => post(client, index % 2 === 0))
      yield* inProcess(Effect.all(calls, { concurrency: 4 }))
      expect([answered.length, distinct(answered), distinct(server.keys())]).toEqual([count, count, count])
    })
  )

  it.scoped("a form has the same key and the same bytes in every process", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect()
      const upload = Effect.suspend(() => {
        const form = new FormData()
        form.append("file", new File([new Uint8Array([1, 2])], "a.bin"))
        return client.execute(HttpClientRequest.post("/").pipe(HttpClientRequest.bodyFormData(form)))
      })
      yield* inProcess(upload)
      yield* inProcess(upload)
      expect(distinct(server.keys())).toBe(1)
      expect(distinct(server.received.map(({ body }) => body.toString("latin1")))).toBe(1)
    })
  )

  it.scoped("a request of a step is counted in that run of the step alone", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect()
      const post = Effect.suspend(() => client.post("/"))
      // The step fails after its request and is run again; a later run of the effect replays it, and sends the rest.
      yield* inProcess(
        post.pipe(inStep("a"), Effect.repeatN(1), Effect.zipRight(post.pipe(inStep("b"))), Effect.zip(post))
      )
      yield* inProcess(post)
      const [first, retried, other, outside, rerun] = server.keys()
      expect(retried).toBe(first)
      expect(rerun).toBe(outside)
      expect(distinct([first ?? "", other ?? "", outside ?? ""])).toBe(3)
    })
  )

  it.scoped("a protected effect within another, or within its step, sends keys of its own", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect()
      const ship = Effect.suspend(() => client.post("/")).pipe(Effect.asVoid, withIdempotency("ship", "parcel-1"))
      yield* inProcess(Effect.zipRight(client.post("/"), inStep("a")(ship)))
      yield* Effect.scoped(Effect.provide(ship, layerMemory))
      const [outer, inner, alone] = server.keys()
      expect(inner).toBe(alone)
      expect(inner).not.toBe(outer)
    })
  )

  it.scoped("the caller's own key comes first", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connect({ ...atOnce, key: () => "mine" })
      yield* inProcess(client.post("/"))
      expect(server.keys()).toEqual(["mine"])
    })
  )
})
