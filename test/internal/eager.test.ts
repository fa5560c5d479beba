import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as eager from "../../src/internal/eager.js"

const broken = new Error("broken")
const throwing = (): never => {
  throw broken
}
const died = Exit.die(broken)
const refused = Exit.fail("refused")

/** What ends now, or later, in the same way. */
const twice = (
  name: string,
  check: (ending: <A, E>(exit: Exit.Exit<A, E>) => Effect.Effect<A, E>, isNow: boolean) => Effect.Effect<void>
) => {
  it.effect(`${name}: of what has ended, at once`, () => check((exit) => exit, true))
  it.effect(`${name}: of what has not, when it has`, () => check((exit) => Effect.suspend(() => exit), false))
}

/** What is made is an exit just where nothing is left to wait for, and the same exit in any case. */
const becomes = <A, E>(made: Effect.Effect<A, E>, isNow: boolean, exit: Exit.Exit<A, E>) =>
  Effect.map(Effect.exit(made), (ended) => {
    expect(eager.hasEnded(made)).toBe(isNow)
    expect(ended).toEqual(exit)
  })

describe("eager combinators", () => {
  it.effect("suspend: what is thrown is a defect", () =>
    Effect.gen(function* () {
      expect(eager.suspend(throwing)).toEqual(died)
      expect(eager.suspend(() => Exit.succeed(1))).toEqual(Exit.succeed(1))
      expect(yield* eager.suspend(() => Effect.sync(() => 2))).toBe(2)
    })
  )

  twice("flatMap", (ending, isNow) =>
    Effect.gen(function* () {
      const succeeded = ending(Exit.succeed(1))
      yield* becomes(
        eager.flatMap(succeeded, (value) => Exit.succeed(value + 1)),
        isNow,
        Exit.succeed(2)
      )
      yield* becomes(
        eager.flatMap(succeeded, () => Exit.fail("no")),
        isNow,
        Exit.fail("no")
      )
      yield* becomes(eager.flatMap(succeeded, throwing), isNow, died)
      yield* becomes(eager.flatMap(ending(refused), throwing), isNow, refused)
    })
  )

  twice("matchCauseEffect", (ending, isNow) =>
    Effect.gen(function* () {
      const ends = {
        onFailure: (cause: Cause.Cause<string>) => Exit.succeed(`failed: ${Cause.squash(cause)}`),
        onSuccess: (value: number) => Exit.succeed(`succeeded: ${value}`)
      }
      const match = (exit: Exit.Exit<number, string>) => eager.matchCauseEffect(ending(exit), ends)
      yield* becomes(match(Exit.succeed(1)), isNow, Exit.succeed("succeeded: 1"))
      yield* becomes(match(refused), isNow, Exit.succeed("failed: refused"))
      yield* becomes(match(died), isNow, Exit.succeed("failed: Error: broken"))
      const both = { onFailure: throwing, onSuccess: throwing }
      yield* becomes(eager.matchCauseEffect(ending(Exit.succeed(1)), both), isNow, died)
      yield* becomes(eager.matchCauseEffect(ending(refused), both), isNow, died)
    })
  )

  twice("matchEffect", (ending, isNow) =>
    Effect.gen(function* () {
      const ends = {
        onFailure: (error: string) => Exit.succeed(`failed: ${error}`),
        onSuccess: (value: number) => Exit.succeed(`succeeded: ${value}`)
      }
      const match = (exit: Exit.Exit<number, string>) => eager.matchEffect(ending(exit), ends)
      yield* becomes(match(Exit.succeed(1)), isNow, Exit.succeed("succeeded: 1"))
      // Failures are rare: they take their steps.
      yield* becomes(match(refused), false, Exit.succeed("failed: refused"))
      yield* becomes(match(died), false, died)
      yield* becomes(eager.matchEffect(ending(Exit.succeed(1)), { ...ends, onSuccess: throwing }), isNow, died)
    })
  )

  twice("tapBoth", (ending, isNow) =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const tell = (what: string) => () => {
        told.push(what)
        return Effect.void
      }
      const ends = { onFailure: tell("failed"), onSuccess: tell("succeeded") }
      const succeeded: Exit.Exit<number, string> = Exit.succeed(1)
      yield* becomes(eager.tapBoth(ending(succeeded), ends), isNow, succeeded)
      yield* becomes(eager.tapBoth(ending(refused), ends), false, refused)
      expect(told).toEqual(["succeeded", "failed"])
      const later = { ...ends, onSuccess: () => Effect.sync(tell("later")) }
      yield* becomes(eager.tapBoth(ending(succeeded), later), false, succeeded)
      expect(told.at(-1)).toBe("later")
      yield* becomes(eager.tapBoth(ending(succeeded), { ...ends, onSuccess: throwing }), false, died)
    })
  )
})
