/** Clients of the payments API on a network that loses replies, and what they were charged. */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schedule from "effect/Schedule"
import { HttpIdempotencyClient } from "effect-idempotency/http"
import { type Order, PaymentsApi } from "./api.js"
import type { LossyProxy } from "./lossyProxy.js"

export interface Row {
  readonly what: string
  readonly answer: string
  readonly sent: string
  readonly charges: string
}

type Transform = (client: HttpClient.HttpClient) => HttpClient.HttpClient

const again = Schedule.spaced("40 millis")

/** Every request has one key, whatever becomes of its replies. */
const withKeys = (key?: string): Transform =>
  HttpIdempotencyClient.withIdempotencyKey({
    schedule: again,
    maxRetries: 20,
    key: key === undefined ? undefined : () => key
  })

/** What not to do: every try has a key of its own. */
const withKeyPerTry: Transform = (client) =>
  client.pipe(
    HttpClient.mapRequest((request) => HttpClientRequest.setHeader(request, "Idempotency-Key", crypto.randomUUID())),
    HttpClient.retry({ schedule: again, times: 5 })
  )

const plain: Transform = (client) => client

export const scenario = (proxy: LossyProxy): Effect.Effect<ReadonlyArray<Row>> =>
  Effect.gen(function* () {
    let sent = 0
    const clientOf = (transform: Transform) =>
      HttpApiClient.make(PaymentsApi, {
        baseUrl: proxy.url,
        transformClient: (client) =>
          transform(
            HttpClient.tapRequest(client, () =>
              Effect.sync(() => {
                sent++
              })
            )
          )
      })

    const observer = yield* clientOf(plain)
    const chargesOf = (order: string) =>
      Effect.map(Effect.orDie(observer.payments.chargesOf({ path: { order } })), (charges) => charges.length)

    const charge = (transform: Transform, order: Order) =>
      Effect.flatMap(clientOf(transform), ({ payments }) => payments.charge({ payload: order })).pipe(
        Effect.map(({ chargeId }) => `201 ${chargeId}`),
        Effect.catchTags({
          HttpIdempotencyProblem: ({ status, title }) => Effect.succeed(`${status} ${title}`),
          CardDeclined: ({ reason }) => Effect.succeed(`402 declined: ${reason}`)
        })
      )

    const row = <E extends { readonly _tag: string }, R>(
      what: string,
      order: Order,
      call: Effect.Effect<string, E, R>
    ) =>
      Effect.gen(function* () {
        sent = 0
        const answer = Either.merge(yield* Effect.either(Effect.mapError(call, ({ _tag }) => `failed: ${_tag}`)))
        const count = sent
        return { what, answer, sent: `${count}`, charges: `${yield* chargesOf(order.id)} × ${order.id}` }
      })

    const run = Date.now().toString(36)
    const order = (name: string, amount = 100): Order => ({ id: `${run}-${name}`, amount })
    const [a, b, c, d] = [order("a"), order("b"), order("c"), order("d", 5000)]
    const twenty = Effect.map(
      Effect.all(
        Array.from({ length: 20 }, () => charge(withKeys(c.id), c)),
        { concurrency: "unbounded" }
      ),
      (answers) => `20 answers, all of them ${[...new Set(answers)].join(", ")}`
    )
    return [
      yield* row("a charge", a, charge(withKeys(a.id), a)),
      yield* row("its replies lost three times", b, Effect.zipRight(proxy.lose(3), charge(withKeys(), b))),
      yield* row("20 at once with one key", c, twenty),
      yield* row("the same key, another amount", a, charge(withKeys(a.id), { ...a, amount: 999 })),
      yield* row("a card that is declined", d, charge(withKeys(d.id), d)),
      yield* row("no key", order("e"), charge(plain, order("e"))),
      yield* row(
        "a key per try, replies lost twice",
        order("f"),
        Effect.zipRight(proxy.lose(2), charge(withKeyPerTry, order("f")))
      )
    ]
  }).pipe(Effect.provide(FetchHttpClient.layer))
