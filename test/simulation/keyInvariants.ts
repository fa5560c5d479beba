/** What must hold of every key: how often bodies run, and why leases lapse. */
import { type Change, isTakeOver } from "./observedStore.js"
import { elapsed, type NodeHistory, type Played, type Run } from "./played.js"

/** The run of an owner, by a claim that was granted. */
export const isOwned = ({ attempt, caller }: Run): boolean => attempt > 0 && caller.options.strategy === "claim"

const isGrant = ({ after, before, method, token }: Change): boolean =>
  method === "claim" && after?._tag === "Processing" && after.token === token && before?.token !== token

const isRelease = ({ after, before }: Change): boolean => after?._tag === "Released" && before?._tag !== "Released"

/** How often a key came to be absent after it had been there: expired or lost. */
const lossesOf = (changes: ReadonlyArray<Change>): number => {
  let wasThere = false
  let count = 0
  for (const { after, before } of changes) {
    if (wasThere && before === undefined) count++
    if (before !== undefined && after === undefined) count++
    wasThere = after !== undefined
  }
  return count
}

/** Whether the run said for certain that nothing has happened. */
const isRefusal = ({ caller, ended }: Run): boolean =>
  ended === "declined" || ended === "unrecordable" || (ended === "timeout" && !caller.options.withUnknown)

const tooManyRuns = ({ calls, runs }: Played, key: string, changes: ReadonlyArray<Change>): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const ofKey = runs.filter(({ caller }) => caller.key === key)
  const owned = ofKey.filter(isOwned).length
  const grants = changes.filter(isGrant).length
  if (owned > grants) wrong.push(`${owned} runs of owners, by ${grants} claims`)

  const losses = lossesOf(changes)
  const allowed = 1 + changes.filter(isTakeOver).length + changes.filter(isRelease).length + losses
  if (owned > allowed) wrong.push(`${owned} runs of owners, of which only ${allowed} are accounted for`)

  if (calls.every(({ caller }) => caller.key !== key || caller.options.guarantee === "at-most-once")) {
    const resets = changes.filter((change) => change.method === "reset" && isRelease(change)).length
    const most = 1 + ofKey.filter(isRefusal).length + resets + losses
    if (ofKey.length > most) wrong.push(`${ofKey.length} runs under at-most-once, where ${most} are allowed`)
  }
  return wrong
}

/** What a process suffered between two instants that has to do with a key. */
export const troublesOf = ({ troubles }: NodeHistory, key: string, since: number, until: number) =>
  troubles.filter(
    (trouble) => trouble.from <= until && trouble.to >= since && (trouble.key === undefined || trouble.key === key)
  )

/**
 * An owner keeps its lease, and nobody leaves a key behind, unless something happened to its process between the last
 * time that the store heard of it and the lapse.
 */
const lapsesWithoutReason = ({ nodes }: Played, key: string, changes: ReadonlyArray<Change>): ReadonlyArray<string> => {
  const last = changes[changes.length - 1]
  const left = last?.after?._tag === "Processing" ? [last.after] : []
  const lapsed = changes.flatMap((change) =>
    isTakeOver(change) && change.before?._tag === "Processing" ? [change.before] : []
  )
  return [...lapsed, ...left].flatMap(({ leaseUntil, token }) => {
    const heard = changes.filter(({ after }) => after?._tag === "Processing" && after.token === token)
    const renewed = heard.find(({ after }) => after?._tag === "Processing" && after.leaseUntil === leaseUntil)
    const node = nodes[heard[0]?.process ?? -1]
    if (renewed === undefined || node === undefined) return ["a lease lapsed that nobody had"]
    const isExcused =
      (node.closingAt !== undefined && node.closingAt <= leaseUntil) ||
      troublesOf(node, key, renewed.at, leaseUntil).length > 0
    return isExcused ? [] : [`the lease until ${elapsed(leaseUntil)} lapsed without a reason`]
  })
}

/** A step that is on record when an owner claims is not run again. */
const repeatedSteps = ({ runs }: Played, key: string, changes: ReadonlyArray<Change>): ReadonlyArray<string> =>
  runs
    .filter((run) => run.caller.key === key && isOwned(run))
    .flatMap((run) => {
      const grant = changes.findLast(
        (change) =>
          isGrant(change) &&
          change.process === run.caller.process &&
          change.at <= run.startedAt &&
          change.after?.attempt === run.attempt
      )
      if (grant?.after?._tag !== "Processing")
        return [`run ${run.id} has attempt ${run.attempt}, which nobody was given`]
      const recorded = grant.after.steps
      return run.steps
        .filter((name) => recorded.some((step) => step.name === name))
        .map((name) => `run ${run.id} repeated the recorded step "${name}"`)
    })

/** What is wrong with a key. */
export const wrongWithKey = (played: Played, key: string): ReadonlyArray<string> => {
  const changes = played.changes.filter((change) => change.key === key)
  return [
    ...tooManyRuns(played, key, changes),
    ...lapsesWithoutReason(played, key, changes),
    ...repeatedSteps(played, key, changes)
  ].map((wrong) => `${key}: ${wrong}`)
}
