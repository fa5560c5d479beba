/** What must hold of every call: what it may be told, and when. */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { IdempotencyError, IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { describeExit } from "./calls.js"
import { isOwned, troublesOf } from "./keyInvariants.js"
import { type Change, recordedBy } from "./observedStore.js"
import { BodyDefect, BodyFailure, type Call, type Played, type Run } from "./played.js"
import { type Caller, storageTimeout } from "./scenario.js"

interface Recorded {
  readonly tag: "Success" | "Failure" | "Unavailable"
  readonly run: number | undefined
  readonly createdAt: number
}

/** A call, with what it ran itself and all that was ever recorded under its key. */
interface Seen {
  readonly played: Played
  readonly call: Call
  readonly own: ReadonlyArray<Run>
  readonly records: ReadonlyArray<Recorded>
}

/** The longest that a waiter sleeps between two questions. */
const longestPoll = 500

const isOurs = Schema.is(IdempotencyError)

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null

/** The run that a value or a failure of a body came from; an operator's resolution is a negative one. */
const runOf = (value: unknown): number | undefined => {
  const run = isObject(value) ? Number(value["run"]) : Number.NaN
  return Number.isNaN(run) ? undefined : run
}

const recordsOf = (changes: ReadonlyArray<Change>): ReadonlyArray<Recorded> =>
  changes.flatMap((change) => {
    const record = recordedBy(change)
    if (record === undefined) return []
    const { createdAt, outcome } = record
    const run = outcome._tag === "Unavailable" ? undefined : runOf(JSON.parse(outcome.encoded))
    return [{ tag: outcome._tag, createdAt, run }]
  })

const areForTheSame = (a: Caller, b: Caller): boolean => {
  const [one, other] = [a.options.fingerprint, b.options.fingerprint]
  return one === undefined || other === undefined || one === other
}

/** On the same key in the same process, so that one may follow the other. */
const isBeside = (a: Caller, b: Caller): boolean => a.key === b.key && a.process === b.process

const isUnrecordable = ({ ended }: Run): boolean => ended === "unencodable" || ended === "tooLarge"

/** What the type of the call has in its error channel. */
const errorsOf = ({ options }: Caller): ReadonlySet<string> =>
  new Set([
    "IdempotencyResultUnavailableError",
    ...(options.strategy === "claim" ? ["IdempotencyInFlightError"] : []),
    ...(options.onStorageFailure === "fail" || options.guarantee === "at-most-once" ? ["IdempotencyStorageError"] : []),
    ...(options.guarantee === "at-most-once" || options.withUnknown ? ["IdempotencyOutcomeUnknownError"] : []),
    ...(options.fingerprint === undefined ? [] : ["IdempotencyFingerprintMismatchError"])
  ])

/** A result of somebody else may only be given for the same request. */
const wrongSource = ({ call: { caller }, own, played }: Seen, run: number): string | undefined => {
  if (run < 0 || own.some(({ id }) => id === run)) return undefined
  const source = played.runs.find(({ id }) => id === run)?.caller
  if (source === undefined || source.key !== caller.key) return `got a result of another key (run ${run})`
  return areForTheSame(source, caller) ? undefined : `got a result of another fingerprint (run ${run})`
}

const wrongValue = (seen: Seen): string | undefined => {
  const { call, own, records } = seen
  if (call.exit === undefined || Exit.isFailure(call.exit)) return undefined
  const outcome = call.exit.value
  const run = runOf(outcome.value)
  if (run === undefined) return "got a value that no body made"
  switch (outcome._tag) {
    case "Executed": {
      if (!own.some(({ id }) => id === run)) return `executed, but got run ${run}`
      const isExcused =
        own.some(isUnrecordable) ||
        call.caller.options.strategy === "optimistic" ||
        records.some(({ tag }) => tag === "Unavailable")
      return isExcused || records.some((record) => record.run === run) ? undefined : `run ${run} was never recorded`
    }
    case "Replayed": {
      const { epochMillis } = outcome.recordedAt
      return records.some(
        ({ createdAt, run: one, tag }) => tag === "Success" && one === run && createdAt === epochMillis
      )
        ? wrongSource(seen, run)
        : `replayed run ${run}, which is not what was recorded then`
    }
    case "Unprotected": {
      if (errorsOf(call.caller).has("IdempotencyStorageError")) return "ran unprotected against its options"
      if (!(outcome.reason instanceof IdempotencyStorageError)) return "ran unprotected for no reason"
      return wrongSource(seen, run)
    }
  }
}

const wrongError = (seen: Seen, error: IdempotencyError): string | undefined => {
  const { call, own, played, records } = seen
  const { caller, startedAt } = call
  const { inFlight, waitTimeout } = caller.options
  const hasBeenRun = played.runs.some((run) => isBeside(run.caller, caller))
  if (!errorsOf(caller).has(error._tag)) return "failed with what its type does not have"
  switch (error._tag) {
    case "IdempotencyInFlightError":
      if (error.reason === "TakenOver") return own.length === 0 ? "was taken over, and never ran" : undefined
      return inFlight === "wait" && !caller.name.endsWith(">") && (call.endedAt ?? startedAt) < startedAt + waitTimeout
        ? "did not wait for as long as it may"
        : undefined
    case "IdempotencyStorageError":
      if (error.method === "complete") return hasBeenRun ? undefined : "failed to record what nobody ran"
      return own.some(({ ended }) => ended !== "stopped") ? "ran, and then was refused" : undefined
    case "IdempotencyFingerprintMismatchError":
      if (own.some(isOwned)) return "ran, and then met a mismatch"
      return played.calls.some((other) => other.caller.key === caller.key && !areForTheSame(other.caller, caller))
        ? undefined
        : "met a mismatch with nobody"
    case "IdempotencyResultUnavailableError":
      return records.length > 0 ||
        error.cause !== undefined ||
        played.runs.some((run) => run.caller.key === caller.key && isUnrecordable(run))
        ? undefined
        : "was told of a result that there is none of"
    default:
      return undefined
  }
}

const wrongFailure = (seen: Seen): string | undefined => {
  const { call, own, played } = seen
  const { caller, exit } = call
  if (exit === undefined || Exit.isSuccess(exit)) return undefined
  const { cause } = exit
  for (const defect of Cause.defects(cause)) {
    const isOwn = defect instanceof BodyDefect && own.some(({ id }) => id === defect.run)
    if (!isOwn) return `died of ${defect instanceof Error ? (defect.stack ?? defect.message) : String(defect)}`
  }
  if (Cause.isInterruptedOnly(cause)) {
    const closingAt = played.nodes[caller.process]?.closingAt
    const isExcused =
      call.interruptedAt !== undefined ||
      caller.name.endsWith(">") ||
      own.some(({ ended }) => ended === "interruption") ||
      (closingAt !== undefined && closingAt <= (call.endedAt ?? 0))
    return isExcused ? undefined : "was interrupted by nobody"
  }
  const failure = Option.getOrUndefined(Cause.failureOption(cause))
  if (failure instanceof BodyFailure) {
    if (own.some(({ id }) => id === failure.run)) return undefined
    return caller.options.withError ? wrongSource(seen, failure.run) : "got a failure that it cannot decode"
  }
  if (isOurs(failure)) return wrongError(seen, failure)
  return Cause.isFailure(cause) ? `failed with ${String(failure)}` : undefined
}

/** Bodies take their time, and callers wait for as long as they may; everything else is bounded. */
const tooLate = ({ call: { caller, endedAt, interruptedAt, startedAt }, own, played }: Seen): string | undefined => {
  if (played.nodes[caller.process]?.hasCrashed === true) return undefined
  if (endedAt === undefined) return "never settled"
  const pauses = played.scenario.processes[caller.process]?.pauses ?? []
  const paused = pauses.reduce((sum, { from, to }) => sum + to - from, 0)
  const running = own.reduce((sum, run) => sum + (run.endedAt ?? endedAt) - run.startedAt, 0)
  const { inFlight, strategy, waitTimeout } = caller.options
  const waiting = strategy === "claim" && inFlight === "wait" ? waitTimeout : 0
  const limit = running + paused + (1 + own.length) * 2 * waiting + Math.max(1, own.length) * 2.5 * storageTimeout
  if (endedAt - startedAt > limit) return `settled after ${endedAt - startedAt} ms, where ${limit} are allowed`
  const sinceInterruption = interruptedAt === undefined ? 0 : endedAt - interruptedAt
  return sinceInterruption > paused + 2.5 * storageTimeout
    ? `settled ${sinceInterruption} ms after its interruption`
    : undefined
}

/** Who waits hears of a result soon after it was recorded. */
const heardLate = ({ call: { caller, endedAt, exit, startedAt }, own, played }: Seen): string | undefined => {
  const node = played.nodes[caller.process]
  if (exit === undefined || Exit.isFailure(exit) || exit.value._tag !== "Replayed") return undefined
  if (node === undefined || endedAt === undefined) return undefined
  const since = Math.max(startedAt, exit.value.recordedAt.epochMillis, ...own.map((run) => run.endedAt ?? endedAt))
  // An owner that does not know yet that its key is another's lets those wait who follow it.
  const hasLeader = played.runs.some(
    (run) => isBeside(run.caller, caller) && run.startedAt < endedAt && (run.endedAt ?? endedAt) > since
  )
  const isExcused = hasLeader || troublesOf(node, caller.key, since - storageTimeout, endedAt).length > 0
  return !isExcused && endedAt - since > longestPoll
    ? `heard only after ${endedAt - since} ms of what was recorded`
    : undefined
}

/** A caller that knows that another owner holds the key does not run beside it, whatever happens to the store. */
const ranBeside = ({ call, own, played }: Seen): string | undefined => {
  const { caller, startedAt } = call
  const degraded = own.find((run) => run.attempt === 0 && caller.options.strategy === "claim")
  if (degraded === undefined) return undefined
  const isAlone = played.calls.every(
    (other) => other === call || !isBeside(other.caller, caller) || other.startedAt > degraded.startedAt
  )
  const node = played.nodes[caller.process]
  if (!isAlone || node === undefined) return undefined
  const told = played.changes.findLast(
    ({ at, key, method, process, reply }) =>
      key === caller.key &&
      process === caller.process &&
      method === "claim" &&
      reply === "InFlight" &&
      at >= startedAt &&
      at <= degraded.startedAt &&
      troublesOf(node, key, at, at).length === 0
  )
  return told?.before?._tag === "Processing" && told.before.leaseUntil > degraded.startedAt
    ? `ran unprotected beside an owner that it knew of (run ${degraded.id})`
    : undefined
}

/** Where nothing went wrong, nobody hears of anything that did. */
const troubled = ({ call, played }: Seen): string | undefined => {
  const { calls, nodes, scenario } = played
  const isCalm =
    scenario.interventions.length === 0 &&
    nodes.every(({ troubles }) => troubles.length === 0) &&
    scenario.processes.every(({ closeAt }) => closeAt === undefined) &&
    calls.every(({ interruptedAt }) => interruptedAt === undefined)
  if (!isCalm || call.exit === undefined) return undefined
  if (Exit.isSuccess(call.exit)) {
    return call.exit.value._tag === "Unprotected" ? "ran unprotected in the best of worlds" : undefined
  }
  const failure = Option.getOrUndefined(Cause.failureOption(call.exit.cause))
  const isInDoubt = played.runs.some(
    ({ caller, ended }) =>
      caller.key === call.caller.key && (ended === "timeout" || ended === "defect" || ended === "interruption")
  )
  const isNoise =
    isOurs(failure) &&
    (failure._tag === "IdempotencyStorageError" ||
      (failure._tag === "IdempotencyOutcomeUnknownError" && !isInDoubt) ||
      (failure._tag === "IdempotencyInFlightError" && failure.reason === "TakenOver"))
  return isNoise ? "heard of trouble in the best of worlds" : undefined
}

const startedTooLate = ({ own, played }: Seen): string | undefined => {
  const late = own.find(({ caller, startedAt }) => startedAt > (played.nodes[caller.process]?.closedAt ?? Infinity))
  return late === undefined ? undefined : `started run ${late.id} after its engine had closed`
}

/** What is wrong with a call. */
export const wrongWithCall = (played: Played, call: Call): ReadonlyArray<string> => {
  const seen: Seen = {
    played,
    call,
    own: played.runs.filter(({ caller }) => caller === call.caller),
    records: recordsOf(played.changes.filter(({ key }) => key === call.caller.key))
  }
  const got = call.exit === undefined ? "" : ` (${describeExit(call.exit)})`
  return [wrongValue, wrongFailure, tooLate, heardLate, ranBeside, troubled, startedTooLate].flatMap((check) => {
    const wrong = check(seen)
    return wrong === undefined ? [] : [`${call.caller.name} ${wrong}${got}`]
  })
}
