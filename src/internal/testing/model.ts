/**
 * The model test: random operations against a store and against the transition function; both give the same replies
 * and hold the same states.
 *
 * The clock of the model is its own. Whenever an operation leaves something that ends soon, time passes beyond it in
 * both at once, so that no reply depends on how fast the machine is.
 */
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import type * as Protocol from "../protocol.js"
import * as transition from "../transition.js"
import { type Advance, type Fixture, hour, lease, makeFixture, moment } from "./contractCase.js"

const tokens = ["a", "b", "c"] as const
const keys = ["-1", "-2", "-3"] as const
const scopes = [undefined, "scope"] as const
/** The operations that take nothing but a key and perhaps a token. */
const bareOps = ["release", "hold", "get", "delete", "deleteMany", "getMany", "saveMany", "save"] as const

interface On {
  readonly key: (typeof keys)[number]
  readonly scope: (typeof scopes)[number]
  readonly token: (typeof tokens)[number]
}

type Command = On &
  (
    | ({ readonly op: "claim" } & Omit<Protocol.ClaimRequest, "token">)
    | { readonly op: "renew"; readonly lease: number }
    | ({ readonly op: "complete" } & Omit<Protocol.CompleteRequest, "token">)
    | { readonly op: (typeof bareOps)[number] }
    | { readonly op: "saveStep"; readonly name: string; readonly encoded: string }
    | { readonly op: "resolve"; readonly result: number }
    | { readonly op: "reset"; readonly force: boolean }
  )

const command: FastCheck.Arbitrary<Command> = (() => {
  const on = {
    key: FastCheck.constantFrom(...keys),
    scope: FastCheck.constantFrom(...scopes),
    token: FastCheck.constantFrom(...tokens)
  }
  const fingerprint = FastCheck.constantFrom(undefined, "f", "g")
  const retention = FastCheck.constantFrom(hour, hour, hour, moment)
  const outcome: FastCheck.Arbitrary<Protocol.Outcome> = FastCheck.constantFrom(
    { _tag: "Success", encoded: '{"n":1}' },
    { _tag: "Success", encoded: "" },
    { _tag: "Failure", encoded: '"no"' },
    { _tag: "Unavailable" }
  )
  const claim = FastCheck.record({
    ...on,
    op: FastCheck.constant("claim" as const),
    fingerprint,
    guarantee: FastCheck.constantFrom<Array<Protocol.Guarantee>>("at-least-once", "at-most-once"),
    lease: FastCheck.constantFrom(lease, lease, moment),
    retention,
    unknownRetention: FastCheck.constantFrom(2 * hour, 2 * hour, moment)
  })
  const complete = FastCheck.record({
    ...on,
    op: FastCheck.constant("complete" as const),
    outcome,
    fingerprint,
    retention
  })
  return FastCheck.oneof(
    { weight: 8, arbitrary: claim },
    { weight: 3, arbitrary: complete },
    {
      weight: 2,
      arbitrary: FastCheck.record({
        ...on,
        op: FastCheck.constant("renew" as const),
        lease: FastCheck.constantFrom(lease, moment)
      })
    },
    {
      weight: 8,
      arbitrary: FastCheck.record({
        ...on,
        op: FastCheck.constantFrom(...bareOps)
      })
    },
    {
      weight: 2,
      arbitrary: FastCheck.record({
        ...on,
        op: FastCheck.constant("saveStep" as const),
        name: FastCheck.constantFrom("one", "two"),
        encoded: FastCheck.constantFrom("1", "")
      })
    },
    {
      weight: 2,
      arbitrary: FastCheck.record({ ...on, op: FastCheck.constant("resolve" as const), result: FastCheck.nat(9) })
    },
    {
      weight: 2,
      arbitrary: FastCheck.record({ ...on, op: FastCheck.constant("reset" as const), force: FastCheck.boolean() })
    }
  )
})()

/** Replies and states without what differs by nature: instants, and the tokens that the repository makes. */
const comparable = (value: object | undefined): object | undefined => {
  if (value === undefined) return undefined
  const {
    createdAt: _,
    expiresAt: __,
    leaseUntil: ___,
    remaining: ____,
    token,
    ...rest
  } = {
    createdAt: 0,
    expiresAt: 0,
    leaseUntil: 0,
    remaining: 0,
    token: "",
    ...value
  }
  const known = tokens.some((one) => one === token) ? { token } : {}
  const record =
    "record" in value && typeof value.record === "object" && value.record !== null ? value.record : undefined
  // A Released state that was Completed has a retention that only the instants tell.
  const retention = "_tag" in value && value._tag === "Released" ? { retention: 0 } : {}
  return { ...rest, ...known, ...retention, record: comparable(record) }
}

/**
 * What a pass is in the model: far more than a moment, and so little that a whole run of passes does not end what is to
 * last.
 */
const passing = 1_000

/** The transition function over a map, with a clock that moves only when it is told to. */
const makeModel = () => {
  let now = 0
  let fresh = 0
  const states = new Map<string, Protocol.State | undefined>()
  const of = ({ key, scope }: Pick<On, "key" | "scope">) => `${scope ?? ""}${key}`

  return {
    state: (on: Pick<On, "key" | "scope">) => transition.live(states.get(of(on)), now),
    /** A token of the repository's own. */
    freshToken: () => `fresh-${fresh++}`,
    apply: <Reply>(
      on: Pick<On, "key" | "scope">,
      next: (state: Protocol.State | undefined, now: number) => transition.Transition<Reply>
    ): Reply => {
      const { reply, state } = next(states.get(of(on)), now)
      states.set(of(on), state)
      return reply
    },
    endsSoon: (): boolean =>
      Array.from(states.values()).some((state) => {
        if (state === undefined) return false
        const ends = state._tag === "Processing" ? [state.leaseUntil, state.expiresAt] : [state.expiresAt]
        return ends.some((end) => end > now && end <= now + passing)
      }),
    pass: () => {
      now += passing
    }
  }
}

type Model = ReturnType<typeof makeModel>

const others = (on: On): ReadonlyArray<On> => {
  const next = keys[(keys.indexOf(on.key) + 1) % keys.length] ?? on.key
  return [on, { ...on, key: next }]
}

/** Runs one operation on both, and compares the replies. */
const step = (fixture: Fixture, model: Model, command: Command): Effect.Effect<void, unknown> => {
  const { claims, ids, record, repository } = fixture
  const idsOf = ({ key, scope }: On) => ids(scope === undefined ? { key } : { key, scope })
  const { token } = command
  const same = <Reply extends object>(
    real: Effect.Effect<Reply | undefined, unknown>,
    next: (state: Protocol.State | undefined, now: number) => transition.Transition<Reply>
  ) =>
    Effect.map(real, (reply) => {
      expect(comparable(reply), command.op).toEqual(comparable(model.apply(command, next)))
    })
  const insertInModel = (on: On) =>
    model.apply(on, (state, now) =>
      transition.insert(
        state,
        {
          token: model.freshToken(),
          outcome: { _tag: "Success", encoded: "0" },
          fingerprint: undefined,
          attempt: 1,
          createdAt: now,
          expiresAt: now + hour,
          retention: hour
        },
        now
      )
    )._tag === "Inserted"

  switch (command.op) {
    case "claim":
      return same(claims.claim(idsOf(command), command), (state, now) => transition.claim(state, command, now))
    case "renew":
      return same(
        Effect.map(claims.renew([{ identifiers: idsOf(command), request: command }]), ([reply]) => reply),
        (state, now) => transition.renew(state, command, now)
      )
    case "complete":
      return same(claims.complete(idsOf(command), command), (state, now) => transition.complete(state, command, now))
    case "release":
      return same(claims.release(idsOf(command), { token }), (state, now) => transition.release(state, { token }, now))
    case "hold":
      return same(claims.hold(idsOf(command), { token }), (state, now) => transition.hold(state, { token }, now))
    case "saveStep":
      return same(claims.saveStep(idsOf(command), command), (state, now) => transition.saveStep(state, command, now))
    case "resolve":
      return Effect.map(
        Effect.either(repository.resolve(idsOf(command), { _tag: "Success", result: command.result })),
        (result) => {
          const outcome: Protocol.Outcome = { _tag: "Success", encoded: String(command.result) }
          const reply = model.apply(command, (state, now) =>
            transition.resolve(state, { token: model.freshToken(), outcome }, now)
          )
          expect(result._tag === "Right" ? result.right : result.left._tag, "resolve").toBe(
            reply._tag === "InFlight" ? "IdempotencyInFlightError" : reply._tag === "Resolved"
          )
        }
      )
    case "reset":
      return Effect.map(Effect.either(repository.reset(idsOf(command), { force: command.force })), (result) => {
        const reply = model.apply(command, (state, now) => transition.reset(state, command, now))
        expect(result._tag === "Right" ? result.right : result.left._tag, "reset").toBe(
          reply._tag === "InFlight" ? "IdempotencyInFlightError" : reply._tag === "Reset"
        )
      })
    case "get":
      return Effect.map(repository.get(idsOf(command)), (found) => {
        expect(Option.isSome(found), "get").toBe(model.state(command)?._tag === "Completed")
      })
    case "getMany":
      return Effect.map(repository.getMany(others(command).map(idsOf)), (found) => {
        const settled = others(command).filter((on) => model.state(on)?._tag === "Completed")
        expect(Array.from(found, ([{ idempotencyKey }]) => idempotencyKey).sort(), "getMany").toEqual(
          settled.map((on) => idsOf(on).idempotencyKey).sort()
        )
      })
    case "save":
      return Effect.map(
        Effect.isSuccess(Effect.flatMap(record(idsOf(command), 0), (made) => repository.save(made))),
        (saved) => {
          expect(saved, "save").toBe(insertInModel(command))
        }
      )
    case "saveMany":
      return Effect.gen(function* () {
        const records = yield* Effect.forEach(others(command), (on) => record(idsOf(on), 0))
        const result = yield* Effect.either(repository.saveMany(records))
        const colliding = others(command).filter((on) => !insertInModel(on))
        expect(
          result._tag === "Left" && result.left._tag === "IdempotencyKeyCollisionError" ? result.left.keys : [],
          "saveMany"
        ).toEqual(colliding.map((on) => idsOf(on).idempotencyKey))
      })
    case "delete":
      return Effect.map(repository.delete(idsOf(command)), (was) => {
        expect(was, "delete").toBe(model.apply(command, transition.remove))
      })
    case "deleteMany":
      return Effect.map(repository.deleteMany(others(command).map(idsOf)), (count) => {
        const were = others(command).map((on) => model.apply(on, transition.remove))
        expect(count, "deleteMany").toBe(were.filter(Boolean).length)
      })
  }
}

const agree = (fixture: Fixture, commands: ReadonlyArray<Command>): Effect.Effect<void, unknown> =>
  Effect.gen(function* () {
    const model = makeModel()
    for (const command of commands) {
      yield* step(fixture, model, command)
      if (model.endsSoon()) {
        yield* fixture.pass
        model.pass()
      }
    }
    const everything = keys.flatMap((key) => scopes.map((scope) => ({ key, scope })))
    const states = yield* fixture.claims.read(
      everything.map(({ key, scope }) => fixture.ids(scope === undefined ? { key } : { key, scope }))
    )
    expect(states.map(comparable)).toEqual(everything.map((on) => comparable(model.state(on))))
  })

export interface ModelOptions {
  readonly runs: number
  readonly seed?: number | undefined
  /** Milliseconds that one run may take: a store that does not answer fails. After four times that none is begun. */
  readonly timeout: number
}

/** Random runs of up to 40 operations. A failure prints its seed and the shortest run that fails. */
export const agreesWithModel = (
  advance: Advance,
  { runs, seed, timeout }: ModelOptions
): Effect.Effect<void, unknown, IdempotencyRepository> =>
  Effect.gen(function* () {
    const repository = yield* IdempotencyRepository
    const run = Runtime.runPromise(yield* Effect.runtime<never>())
    const property = FastCheck.asyncProperty(
      FastCheck.array(command, { minLength: 1, maxLength: 40, size: "max" }),
      (commands) => run(agree(makeFixture(repository, advance), commands))
    )
    yield* Effect.tryPromise({
      try: () =>
        FastCheck.assert(property, {
          numRuns: runs,
          timeout,
          interruptAfterTimeLimit: timeout * 4,
          markInterruptAsFailure: false,
          ...(seed === undefined ? {} : { seed })
        }),
      catch: (failure) => failure
    })
  })
