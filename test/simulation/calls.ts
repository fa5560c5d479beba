/** The callers and the bodies that they protect. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { pipe } from "effect/Function"
import * as Schema from "effect/Schema"
import type { IdempotencyOutcome } from "../../src/IdempotencyOutcome.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import type { AnySchema } from "../../src/internal/codecs.js"
import { execute } from "../../src/internal/execute.js"
import type { AnyOptions } from "../../src/internal/plan.js"
import { whichWay } from "../../src/internal/results.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import type { Node } from "./node.js"
import { BodyDefect, BodyFailure, type Call, type Run, type World } from "./played.js"
import { type Caller, maxResultBytes } from "./scenario.js"

const Value = Schema.Struct({ run: Schema.Number, text: Schema.optional(Schema.String) })
const Declined = Schema.transform(
  Schema.Struct({ _tag: Schema.Literal("Declined"), run: Schema.Number }),
  Schema.instanceOf(BodyFailure).pipe(Schema.filter(({ _tag }) => _tag === "Declined")),
  {
    strict: true,
    decode: ({ run }) => new BodyFailure("Declined", run),
    encode: ({ run }) => ({ _tag: "Declined" as const, run })
  }
)
// The engine takes any schema; it encodes nothing but what the schema's owner gives it.
const untyped = <A, I>(schema: Schema.Schema<A, I>): AnySchema => schema as unknown as AnySchema
const success = untyped(Value)
const error = untyped(Declined)
const isOutcomeUnknown = (failure: unknown) => failure instanceof BodyFailure && failure._tag === "Timeout"

const optionsOf = ({ options: { withError, withSuccess, withUnknown, ...options } }: Caller): AnyOptions => ({
  ...options,
  success: withSuccess ? success : undefined,
  error: withError ? error : undefined,
  isOutcomeUnknown: withUnknown ? isOutcomeUnknown : undefined
})

const endingOf = ({ id, caller: { ending, options } }: Run): Effect.Effect<unknown, BodyFailure> => {
  switch (ending) {
    case "success":
      return Effect.succeed({ run: id })
    case "declined":
      return Effect.fail(new BodyFailure("Declined", id))
    case "unrecordable":
      return Effect.fail(new BodyFailure("Unrecordable", id))
    case "timeout":
      return Effect.fail(new BodyFailure("Timeout", id))
    case "defect":
      return Effect.die(new BodyDefect(id))
    case "interruption":
      return Effect.interrupt
    case "unencodable":
      return Effect.succeed(options.withSuccess ? { run: `${id}` } : { run: id, not: Number.NaN })
    case "tooLarge":
      return Effect.succeed({ run: id, text: "x".repeat(maxResultBytes + 1) })
  }
}

const partsOf = ({ caller: { parts }, steps }: Run) =>
  Effect.forEach(
    parts,
    ({ millis, saved }, index) => {
      const name = `part ${index}`
      const part = Effect.sleep(millis)
      if (!saved) return part
      const step = Effect.sync(() => void steps.push(name))
      return Effect.asVoid(withIdempotentStep(name)(Effect.as(Effect.zipRight(step, part), index)))
    },
    { discard: true }
  )

const nestedOf = (caller: Caller, key: string): Caller => ({
  ...caller,
  name: `${caller.name}>`,
  key,
  interruptAt: undefined,
  nested: undefined,
  ending: "success"
})

const body = (world: World, node: Node, caller: Caller): Effect.Effect<unknown, unknown, IdempotentExecution> =>
  Effect.flatMap(IdempotentExecution, ({ attempt }) => {
    const { runs, tell, time } = world
    const id = runs.length + 1
    const run: Run = { id, caller, attempt, startedAt: time.now(), steps: [], endedAt: undefined, ended: undefined }
    runs.push(run)
    tell(() => `${caller.name} runs the body of ${caller.key}: run ${run.id}, attempt ${attempt}`)
    return pipe(
      caller.nested === undefined ? Effect.void : Effect.exit(call(world, node, nestedOf(caller, caller.nested))),
      Effect.zipRight(partsOf(run)),
      Effect.zipRight(
        Effect.suspend(() => {
          run.ended = caller.ending
          return endingOf(run)
        })
      ),
      Effect.onExit(() =>
        Effect.sync(() => {
          run.endedAt = time.now()
          run.ended ??= "stopped"
          tell(() => `${caller.name} ends run ${run.id}: ${run.ended}`)
        })
      )
    )
  })

/** In one line. */
export const describeExit = (exit: Exit.Exit<IdempotencyOutcome<unknown>, unknown>): string =>
  Exit.match(exit, {
    onSuccess: ({ _tag, value }) => `${_tag} ${JSON.stringify(value)?.slice(0, 40)}`,
    onFailure: (cause) => cause.toString().split("\n")[0] ?? ""
  })

const call = (world: World, node: Node, caller: Caller): Effect.Effect<unknown, unknown> => {
  const { calls, tell, time } = world
  return Effect.suspend(() => {
    const made: Call = { caller, startedAt: time.now(), interruptedAt: undefined, endedAt: undefined, exit: undefined }
    calls.push(made)
    tell(() => `${caller.name} calls ${caller.key} in p${caller.process}: ${JSON.stringify(caller.options)}`)
    const guarded = pipe(
      execute(body(world, node, caller), "op", caller.key, optionsOf(caller), whichWay),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          made.exit = exit
          made.endedAt = time.now()
          tell(() => `${caller.name} got ${describeExit(exit)}`)
        })
      ),
      Effect.provide(node.context)
    )
    // Whatever else the untyped effect could ask for, no body and no schema here does.
    return guarded as Effect.Effect<unknown, unknown>
  })
}

/** Calls when it is time, and interrupts the call if that is to be. */
export const startCaller = (world: World, node: Node, caller: Caller): void => {
  const { calls, tell, time } = world
  time.after(node.pausable, caller.at, () => {
    const fiber = node.fork(call(world, node, caller))
    if (caller.interruptAt === undefined) return
    time.after(node.pausable, caller.interruptAt - caller.at, () => {
      const made = calls.find((one) => one.caller === caller)
      if (made === undefined || made.exit !== undefined) return
      made.interruptedAt = time.now()
      tell(() => `${caller.name} is interrupted`)
      fiber.unsafeInterruptAsFork(fiber.id())
    })
  })
}
