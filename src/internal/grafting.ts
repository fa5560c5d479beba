/**
 * `Effect.transplant` for a fiber that is about to start: what it forks belongs to its caller, and lives as long. To
 * graft an effect takes a fiber a dozen steps, a third of a first execution over memory; to start with the reference that
 * these set takes none.
 *
 * Effect does not export that reference, nor the type of what it holds: both are learnt from a transplant, and where
 * they are not what they are expected to be, `transplant` it is.
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as FiberId from "effect/FiberId"
import type * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { AnyFiber } from "./call.js"

/** The references of a fiber that the caller starts, so that what it forks is the caller's. */
export type Grafting = (caller: AnyFiber, refs: FiberRefs.FiberRefs, fiber: FiberId.Runtime) => FiberRefs.FiberRefs

const scopeOf = (fiber: AnyFiber): unknown =>
  "scope" in fiber && typeof fiber.scope === "function" ? fiber.scope() : undefined

const valueOf = (refs: FiberRefs.FiberRefs, ref: FiberRef.FiberRef<unknown>): unknown =>
  FiberRefs.getOrDefault(refs, ref)

/** The fiber whose scope it is, if it is one. */
const fiberOf = (scope: unknown): FiberId.FiberId | undefined =>
  Predicate.hasProperty(scope, "fiberId") && FiberId.isFiberId(scope.fiberId) ? scope.fiberId : undefined

/** What is set where a fiber grafts, if it is what is expected: one option, which was none, of the fiber's own scope. */
const learnt: Effect.Effect<FiberRef.FiberRef<unknown> | undefined> = Effect.transplant((graft) =>
  Effect.withFiberRuntime((fiber) =>
    Effect.map(Effect.zip(Effect.getFiberRefs, graft(Effect.getFiberRefs)), ([before, within]) => {
      const changed = [...within.locals.keys()].filter((ref) => valueOf(before, ref) !== valueOf(within, ref))
      const [ref, ...others] = changed
      if (ref === undefined || others.length > 0) return undefined
      const inner = valueOf(within, ref)
      return Equal.equals(valueOf(before, ref), Option.none()) &&
        Option.isOption(inner) &&
        Equal.equals(Option.map(inner, fiberOf), Option.some(fiber.id())) &&
        fiberOf(scopeOf(fiber)) === fiber.id()
        ? ref
        : undefined
    })
  )
)

/** Nothing where it could not be learnt. */
export const makeGrafting = (): Grafting | undefined => {
  // In a fiber of its own: where something is grafted already, nothing is set.
  const fiberRef = Effect.runSync(learnt)
  if (fiberRef === undefined) return undefined
  return (caller, refs, fiberId) => {
    const override = caller.getFiberRef(fiberRef)
    // What the caller forks may belong to another than the caller: then this does, too.
    const isOverridden = Option.isOption(override) && Option.isSome(override)
    const value = isOverridden ? override : Option.some(scopeOf(caller))
    return FiberRefs.updateAs(refs, { fiberId, fiberRef, value })
  }
}
