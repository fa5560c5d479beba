/** Shows what becomes of calls with an idempotency key: real calls, real timings, a real ledger. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { IdempotencyOutcome } from "effect-idempotency"
import { Gateway, type Order, pay, type Receipt } from "./payments.js"
import { memory, redis } from "./stores.js"

const told = (outcome: IdempotencyOutcome<Receipt>): string =>
  IdempotencyOutcome.$match(outcome, {
    Executed: ({ attempt, value }) => `executed, attempt ${attempt}: ${value.chargeId}`,
    Replayed: ({ value }) => `replayed: ${value.chargeId}`,
    Unprotected: ({ reason, value }) =>
      `executed without protection (${reason === "NoKey" ? "no key" : reason.reason}): ${value.chargeId}`
  })

interface Row {
  readonly what: string
  readonly result: string
  readonly took: string
  readonly charges: string
}

/** Runs the call and measures it; then asks the ledger. */
const row = <E extends { readonly _tag: string }, R>(
  what: string,
  order: Order,
  call: Effect.Effect<string, E, R>
): Effect.Effect<Row, never, R | Gateway> =>
  Effect.gen(function* () {
    const start = performance.now()
    const result = yield* Effect.either(call)
    const took = performance.now() - start
    const charges = yield* Effect.flatMap(Gateway, (gateway) => gateway.chargesOf(order))
    return {
      what,
      result: Either.match(result, { onLeft: (error) => `refused: ${error._tag}`, onRight: (text) => text }),
      took: `${took.toFixed(1)} ms`,
      charges: `${charges} × ${order.id}`
    }
  })

const one = (order: Order) => Effect.map(pay(order), told)

const twenty = (order: Order) =>
  Effect.map(
    Effect.all(
      Array.from({ length: 20 }, () => pay(order)),
      { concurrency: "unbounded" }
    ),
    (outcomes) => {
      const count = (tag: string) => outcomes.filter(({ _tag }) => _tag === tag).length
      const receipts = new Set(outcomes.map(({ value }) => value.chargeId)).size
      return `${count("Executed")} executed, ${count("Replayed")} replayed, ${receipts} receipt`
    }
  )

const print = (title: string, rows: ReadonlyArray<Row>) => {
  const header: Row = { what: "call", result: "result", took: "took", charges: "charges" }
  const width = (column: keyof Row) => Math.max(...[header, ...rows].map((each) => each[column].length))
  const line = (each: Row) =>
    [
      each.what.padEnd(width("what")),
      each.result.padEnd(width("result")),
      each.took.padStart(width("took")),
      each.charges.padEnd(width("charges"))
    ].join("  │  ")
  const rule = line(header).replace(/[^│]/g, "─").replace(/│/g, "┼")
  console.log([`\n${title}\n`, line(header), rule, ...rows.map(line), ""].join("\n"))
}

const demo = Effect.gen(function* () {
  const url = process.env["REDIS_URL"]
  const store = yield* url === undefined || url === "" ? memory : redis(url)
  const run = Date.now().toString(36)
  const order = (name: string, amount = 100): Order => ({ id: `${run}-${name}`, amount })
  const [a, b, c, d] = [order("a"), order("b"), order("c"), order("d")]

  const rows = yield* Effect.gen(function* () {
    const first = yield* row("first call", a, one(a))
    const retry = yield* row("a retry", a, one(a))
    const concurrent = yield* row("20 concurrent calls", b, twenty(b))
    const mismatch = yield* row("the same key, another amount", a, one({ ...a, amount: 999 }))
    yield* store.cutOff
    const outage = yield* row("a call while the store is down", c, one(c))
    const opened = yield* row("another (the breaker opens)", c, one(c))
    const bypassed = yield* row("one more (the breaker is open)", c, one(c))
    yield* store.reconnect
    yield* Effect.sleep("1500 millis")
    const back = yield* row("a retry, the store is back", a, one(a))
    yield* store.killedWorker(d)
    const killed = yield* row("after the owner was killed", d, one(d))
    return [first, retry, concurrent, mismatch, outage, opened, bypassed, back, killed]
  }).pipe(Effect.provide(store.engine))

  print(
    `Charging 100 through "payment.charge", records in ${store.name}; the gateway takes 60 ms, the lease 2 s.`,
    rows
  )
  if (url !== undefined && url !== "") console.log(`The records are under idempotency:payment.charge:${run}-*\n`)
})

const folder = mkdtempSync(join(tmpdir(), "effect-idempotency-demo-"))
await Effect.runPromise(
  demo.pipe(
    Effect.scoped,
    Effect.provide(Gateway.layer(join(folder, "ledger"))),
    Logger.withMinimumLogLevel(LogLevel.Error),
    Effect.ensuring(Effect.sync(() => rmSync(folder, { recursive: true })))
  )
)
