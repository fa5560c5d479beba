/** Every verb on every state, in Lua and in the transition function. */
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type { Driver, InsertRequest, Outcome, State } from "../../src/internal/protocol.js"
import * as transition from "../../src/internal/transition.js"
import { StandaloneRedis } from "../support/redisServers.js"
import { claimBy, driverOver, freshIds, majors, minute, nodeClient } from "./fixtures.js"

const success: Outcome = { _tag: "Success", encoded: '{"id":1}' }

type Prepare = (driver: Driver, ids: IdempotencyIdentifiers) => Effect.Effect<unknown, IdempotencyStorageError>

const step = { token: "mine", name: "reserve", encoded: '"é"' }
const lapse = Effect.sleep("8 millis")
const mostOnce = { guarantee: "at-most-once" } as const
const print = { fingerprint: "print" }

/** States as `mine` left them. */
const states: Readonly<Record<string, Prepare>> = {
  absent: () => Effect.void,
  processing: (driver, ids) => driver.claim(ids, claimBy("mine", print)),
  "processing at most once": (driver, ids) => driver.claim(ids, claimBy("mine", { ...mostOnce, lease: 20 * minute })),
  "processing with a step": (driver, ids) =>
    Effect.zipRight(driver.claim(ids, claimBy("mine", print)), driver.saveStep(ids, step)),
  lapsed: (driver, ids) => Effect.zipRight(driver.claim(ids, claimBy("mine", { ...print, lease: 1 })), lapse),
  "lapsed with a step": (driver, ids) =>
    Effect.all([driver.claim(ids, claimBy("mine", { lease: 5 })), driver.saveStep(ids, step), lapse]),
  "lapsed at most once": (driver, ids) =>
    Effect.zipRight(driver.claim(ids, claimBy("mine", { ...mostOnce, ...print, lease: 1 })), lapse),
  "unknown, lapsed": (driver, ids) =>
    Effect.all([
      driver.claim(ids, claimBy("mine", { ...mostOnce, lease: 1 })),
      lapse,
      driver.claim(ids, claimBy("other"))
    ]),
  "unknown, held": (driver, ids) =>
    Effect.all([driver.claim(ids, claimBy("mine", print)), driver.saveStep(ids, step), driver.hold(ids, step)]),
  completed: (driver, ids) =>
    driver.complete(ids, { token: "mine", outcome: success, fingerprint: "print", retention: minute }),
  "completed, unavailable": (driver, ids) =>
    driver.complete(ids, {
      token: "mine",
      outcome: { _tag: "Unavailable" },
      fingerprint: undefined,
      retention: minute
    }),
  released: (driver, ids) => Effect.zipRight(driver.claim(ids, claimBy("mine", print)), driver.release(ids, step)),
  "released with a step": (driver, ids) =>
    Effect.all([driver.claim(ids, claimBy("mine", print)), driver.saveStep(ids, step), driver.release(ids, step)]),
  "reset after completion": (driver, ids) =>
    Effect.all([
      driver.complete(ids, { token: "mine", outcome: success, fingerprint: undefined, retention: minute }),
      driver.reset(ids, { force: false })
    ])
}

interface Call {
  readonly send: (driver: Driver, ids: IdempotencyIdentifiers) => Effect.Effect<unknown, IdempotencyStorageError>
  readonly model: (state: State | undefined, now: number) => transition.Transition<unknown>
}

const insertBy = (token: string): InsertRequest => ({
  token,
  outcome: { _tag: "Failure", encoded: '"no"' },
  fingerprint: "f",
  attempt: 1,
  createdAt: 1_700_000_000_000,
  expiresAt: Date.now() + 10 * minute,
  retention: 10 * minute
})

const callsOf = (token: string, fingerprint: string | undefined): Readonly<Record<string, Call>> => {
  const claimRequest = claimBy(token, { fingerprint })
  const mostOnceRequest = claimBy(token, {
    fingerprint,
    ...mostOnce,
    lease: 40 * minute,
    unknownRetention: 90 * minute
  })
  const renewRequest = { token, lease: 20 * minute }
  const completeRequest = { token, outcome: success, fingerprint, retention: 5 * minute }
  const stepRequest = { ...step, token, name: fingerprint ?? step.name }
  const resolveRequest = { token, outcome: success }
  const insertRequest = insertBy(token)
  const first = <A>(all: ReadonlyArray<A>): A | undefined => all[0]
  return {
    claim: { send: (d, ids) => d.claim(ids, claimRequest), model: (s, now) => transition.claim(s, claimRequest, now) },
    "claim at most once": {
      send: (d, ids) => d.claim(ids, mostOnceRequest),
      model: (s, now) => transition.claim(s, mostOnceRequest, now)
    },
    renew: {
      send: (d, ids) => Effect.map(d.renew([{ identifiers: ids, request: renewRequest }]), first),
      model: (s, now) => transition.renew(s, renewRequest, now)
    },
    complete: {
      send: (d, ids) => d.complete(ids, completeRequest),
      model: (s, now) => transition.complete(s, completeRequest, now)
    },
    release: { send: (d, ids) => d.release(ids, { token }), model: (s, now) => transition.release(s, { token }, now) },
    hold: { send: (d, ids) => d.hold(ids, { token }), model: (s, now) => transition.hold(s, { token }, now) },
    saveStep: {
      send: (d, ids) => d.saveStep(ids, stepRequest),
      model: (s, now) => transition.saveStep(s, stepRequest, now)
    },
    resolve: {
      send: (d, ids) => d.resolve(ids, resolveRequest),
      model: (s, now) => transition.resolve(s, resolveRequest, now)
    },
    reset: {
      send: (d, ids) => d.reset(ids, { force: false }),
      model: (s, now) => transition.reset(s, { force: false }, now)
    },
    "reset by force": {
      send: (d, ids) => d.reset(ids, { force: true }),
      model: (s, now) => transition.reset(s, { force: true }, now)
    },
    insert: {
      send: (d, ids) =>
        Effect.map(d.insert([{ identifiers: ids, request: insertRequest }], { allOrNothing: false }), first),
      model: (s, now) => transition.insert(s, insertRequest, now)
    },
    remove: { send: (d, ids) => Effect.map(d.remove([ids]), first), model: (s, now) => transition.remove(s, now) }
  }
}

const instants = new Set(["createdAt", "leaseUntil", "expiresAt", "remaining"])

/** Instants may differ by what the call took; everything else may not. */
const loosely = (value: unknown): unknown => {
  if (value === null || typeof value !== "object") return value
  if (Array.isArray(value)) return value.map(loosely)
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      name,
      instants.has(name) && typeof field === "number" ? expect.closeTo(field, -3.6) : loosely(field)
    ])
  )
}

const cases = Object.keys(states).flatMap((state) =>
  [
    { token: "mine", fingerprint: undefined },
    { token: "mine", fingerprint: "another" },
    { token: "other", fingerprint: undefined },
    { token: "other", fingerprint: "print" },
    { token: "other", fingerprint: "another" }
  ].flatMap(({ fingerprint, token }) =>
    Object.keys(callsOf(token, fingerprint)).map((verb) => ({ state, verb, token, fingerprint }))
  )
)

describe.each(majors)("$major", ({ ioredis }) => {
  layer(StandaloneRedis.layer, { excludeTestServices: true })((it) => {
    it.effect("every verb on every state does what the transition function does", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const { port } = yield* StandaloneRedis
          const driver = yield* driverOver(yield* nodeClient(ioredis, port))
          expect(cases).toHaveLength(14 * 5 * 12)
          yield* Effect.forEach(
            cases,
            ({ fingerprint, state, token, verb }) =>
              Effect.gen(function* () {
                const ids = freshIds()
                const call = callsOf(token, fingerprint)[verb]
                yield* states[state]?.(driver, ids) ?? Effect.dieMessage("no such state")
                const [before] = yield* driver.read([ids])
                if (call === undefined || before?._tag === "Corrupted") return yield* Effect.dieMessage("corrupted")
                const reply = yield* call.send(driver, ids)
                const [after] = yield* driver.read([ids])
                const expected = call.model(before, Date.now())
                const where = `${verb} by ${token} with ${fingerprint} on ${state}`
                expect(reply, where).toEqual(loosely(expected.reply))
                expect(after, where).toEqual(loosely(expected.state))
              }),
            { concurrency: 20, discard: true }
          )
        })
      )
    )
  })
})
