/** What each command does, over a store in memory, and over stores that answer as a store may. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { IdempotencyResultUnavailableError } from "../../src/IdempotencyError.js"
import type { Entry, Page } from "../../src/internal/protocol.js"
import { claimBy, ids } from "../support/requests.js"
import { command, documents, memory, over, type Repository } from "./support.js"

/** Owners that died: one may be taken over, of the other nobody knows what it did. */
const stuck = Effect.gen(function* () {
  const repository = yield* memory
  const { claim, hold, saveStep } = repository.claims
  yield* claim(ids("order-1"), claimBy("a"))
  yield* saveStep(ids("order-1"), { token: "a", name: "reserve", encoded: `"r-1"` })
  yield* claim(ids("payout-7", "payout", "tenant-1"), claimBy("b", { guarantee: "at-most-once", fingerprint: "f00" }))
  yield* hold(ids("payout-7", "payout", "tenant-1"), { token: "b" })
  return repository
})

const complete = (repository: Repository, key: string, encoded: string) =>
  Effect.zipRight(
    repository.claims.claim(ids(key), claimBy(key)),
    repository.claims.complete(ids(key), {
      token: key,
      outcome: { _tag: "Success", encoded },
      fingerprint: undefined,
      retention: 60_000
    })
  )

describe("inspect", () => {
  it.scoped("tells what is stored, for people", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      const { code, err, out } = yield* command(["inspect", "payment.charge", "order-1"], over(repository))
      expect([code, err]).toEqual([0, ""])
      expect(out).toBe(`operation    payment.charge
key          order-1
state        processing, lease 1m left
attempt      1
age          0s, since 1970-01-01T00:00:00.000Z
expires      in 30m, at 1970-01-01T00:30:00.000Z
guarantee    at-least-once
fingerprint  none
steps        reserve: hidden, 5 characters: --show-result shows it
`)
    })
  )

  it.scoped("tells it to programs, and tells nobody the owner's token", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      const args = ["inspect", "payout", "payout-7", "--scope", "tenant-1", "--json"]
      const { code, err, out } = yield* command(args, over(repository))
      expect([code, err]).toEqual([0, ""])
      expect(documents(out)).toEqual([
        {
          operation: "payout",
          scope: "tenant-1",
          key: "payout-7",
          state: "unknown",
          attempt: 1,
          createdAt: "1970-01-01T00:00:00.000Z",
          age: 0,
          expiresAt: "1970-01-01T01:00:00.000Z",
          fingerprint: "f00",
          guarantee: "at-most-once",
          reason: "held",
          steps: []
        }
      ])
    })
  )

  it.scoped("shows results only if they are asked for", () =>
    Effect.gen(function* () {
      const repository = yield* memory
      yield* complete(repository, "order-2", `{"card":"4242"}`)
      const inspect = ["inspect", "payment.charge", "order-2"]
      for (const hidden of [inspect, [...inspect, "--json"]]) {
        expect((yield* command(hidden, over(repository))).out).not.toContain("4242")
      }
      expect((yield* command([...inspect, "--show-result"], over(repository))).out).toContain(
        `result       {"card":"4242"}\n`
      )
      const { out } = yield* command([...inspect, "--show-result", "--json"], over(repository))
      expect(documents(out)).toMatchObject([{ outcome: "success", resultLength: 15, result: { card: "4242" } }])
    })
  )

  it.scoped("has an exit code for what is not there", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      const plain = yield* command(["inspect", "payout", "payout-7"], over(repository))
      expect([plain.code, plain.out]).toEqual([3, ""])
      expect(plain.err).toContain("Nothing is stored for payout payout-7: it never ran")
      const json = yield* command(["inspect", "payout", "payout-7", "--json"], over(repository))
      expect([json.code, json.out]).toEqual([3, ""])
      expect(documents(json.err)).toMatchObject([{ error: "NotFound" }])
    })
  )

  it.scoped("escapes what would reach the terminal, in text and in JSON", () =>
    Effect.gen(function* () {
      const repository = yield* memory
      const evil = "\u001b]0;owned\u0007\u009b2J\u202e"
      yield* complete(repository, "order-3", evil)
      for (const flags of [[], ["--json"]]) {
        const args = ["inspect", "payment.charge", "order-3", "--show-result", ...flags]
        const { code, out } = yield* command(args, over(repository))
        expect(code).toBe(0)
        expect(out).not.toMatch(/[^\P{Cc}\n]|\p{Cf}/u)
        expect(out).toContain("\\u009b2J\\u202e")
        if (flags.length > 0) expect(documents(out)).toMatchObject([{ text: evil }])
      }
    })
  )

  it.scoped("tells of what cannot be read", () =>
    Effect.gen(function* () {
      const repository = yield* memory
      const inspect: Repository["inspect"] = () =>
        new IdempotencyResultUnavailableError({ operation: "o", idempotencyKey: "k", cause: "the value is no record" })
      const unreadable = over({ ...repository, inspect })
      const people = yield* command(["inspect", "o", "k"], unreadable)
      expect(people).toEqual({ code: 0, out: "o k: corrupted, the value is no record\n", err: "" })
      const json = yield* command(["inspect", "o", "k", "--json"], unreadable)
      expect(documents(json.out)).toEqual([
        { operation: "o", scope: null, key: "k", state: "corrupted", cause: "the value is no record" }
      ])
    })
  )

  it.scoped("takes a key that begins with a dash after --, and options before its arguments", () =>
    Effect.gen(function* () {
      const repository = yield* memory
      yield* complete(repository, "-n", "1")
      const { code, out } = yield* command(["inspect", "--json", "--", "payment.charge", "-n"], over(repository))
      expect(code).toBe(0)
      expect(documents(out)).toMatchObject([{ key: "-n" }])
    })
  )
})

describe("list", () => {
  it.scoped("is a table for people", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      const { code, err, out } = yield* command(["list"], over(repository))
      expect([code, err]).toEqual([0, ""])
      expect(out).toBe(`OPERATION       SCOPE     KEY       STATE       ATTEMPT  AGE  EXPIRES IN
payment.charge            order-1   processing  1        0s   30m         lease 1m left
payout          tenant-1  payout-7  unknown     1        0s   1h          held
`)
      expect((yield* command(["list", "--operation", "nothing"], over(repository))).out).toBe("No keys.\n")
    })
  )

  it.scoped("filters by operation, state and the beginning of the key", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      for (const [filter, keys] of [
        [["--operation", "payout"], ["payout-7"]],
        [["--state", "processing"], ["order-1"]],
        [["--state=unknown"], ["payout-7"]],
        [["--state", "completed"], []],
        [["--key-prefix", "order-"], ["order-1"]],
        [[], ["order-1", "payout-7"]]
      ] as const) {
        const { out } = yield* command(["list", "--json", ...filter], over(repository))
        expect(documents(out).map(({ key }) => key)).toEqual(keys)
      }
    })
  )

  it.scoped("stops at the limit and goes on from its cursor", () =>
    Effect.gen(function* () {
      const repository = yield* memory
      for (const key of ["a", "b", "c"]) yield* complete(repository, key, "1")
      const first = documents((yield* command(["list", "--json", "--limit", "2"], over(repository))).out)
      expect(first.map(({ key }) => key)).toEqual(["a", "b", undefined])
      const cursor = String(first[2]?.["cursor"])
      const rest = yield* command(["list", "--json", "--cursor", cursor], over(repository))
      expect(documents(rest.out).map(({ key }) => key)).toEqual(["c"])
      const people = yield* command(["list", "--limit", "2"], over(repository))
      expect(people.out).toContain(`There may be more: --cursor ${cursor}\n`)
    })
  )

  const entry = (key: string): Entry => ({
    identifiers: ids(key),
    state: { _tag: "Corrupted", cause: "what is there is no record" }
  })

  it.scoped("walks empty pages, leaves out what it has printed, and never cuts a page", () =>
    Effect.gen(function* () {
      const repository = yield* memory
      const pages: ReadonlyArray<ReadonlyArray<string>> = [["a"], [], ["a", "b"], ["b"], [], ["c", "d"]]
      const asked: Array<number | undefined> = []
      const list: Repository["list"] = ({ cursor = "0", limit } = {}) =>
        Effect.sync((): Page => {
          asked.push(limit)
          const next = Number(cursor) + 1
          const entries = (pages[Number(cursor)] ?? []).map(entry)
          return { entries, cursor: next < pages.length ? String(next) : undefined, now: 0 }
        })
      const paged = over({ ...repository, list })
      const all = yield* command(["list", "--json", "--all"], paged)
      expect(documents(all.out).map(({ key }) => key)).toEqual(["a", "b", "c", "d"])
      expect(new Set(asked)).toEqual(new Set([1000]))
      asked.length = 0
      const three = yield* command(["list", "--json", "--limit", "3"], paged)
      expect(documents(three.out).map(({ key }) => key)).toEqual(["a", "b", "c", "d"])
      expect(asked).toEqual([3, 2, 2, 1, 1, 1])
      const two = yield* command(["list", "--json", "--limit", "2"], paged)
      expect(documents(two.out).at(-1)).toEqual({ cursor: "3" })
    })
  )

  it.scoped("refuses what it cannot do, before it opens a store", () =>
    Effect.gen(function* () {
      for (const args of [
        ["--limit", "0"],
        ["--limit", "1", "--all"],
        ["--state", "lost"],
        ["--limit", "x"]
      ]) {
        const { code, err, out } = yield* command(["list", ...args], {
          env: { IDEMPOTENCY_STORE: "redis://localhost" },
          open: () => Effect.die("it was opened")
        })
        expect([code, out, err === ""], args.join(" ")).toEqual([2, "", false])
      }
    })
  )
})

describe("reset", () => {
  const reset = ["reset", "payout", "payout-7", "--scope", "tenant-1"]
  const state = (repository: Repository) =>
    Effect.map(repository.inspect(ids("payout-7", "payout", "tenant-1")), (found) =>
      found._tag === "Some" ? found.value._tag : undefined
    )

  it.scoped("asks, and does as it is told", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      const no = yield* command(reset, over(repository, { keys: "n" }))
      expect([no.code, no.err, yield* state(repository)]).toEqual([
        1,
        "effect-idempotency: Nothing was changed.\n",
        "Unknown"
      ])
      expect(no.out).toContain("payout payout-7 (scope tenant-1) is unknown, attempt 1, held.")
      const left = yield* command(reset, over(repository, { keys: "" }))
      expect([left.code, yield* state(repository)]).toEqual([1, "Unknown"])
      const yes = yield* command(reset, over(repository, { keys: "y" }))
      expect([yes.code, yes.err, yield* state(repository)]).toEqual([0, "", "Released"])
      expect(yes.out).toContain("payout payout-7 (scope tenant-1) may run again.\n")
    })
  )

  it.scoped("does nothing where nobody can be asked, but with --yes", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      const nobody = yield* command(reset, over(repository))
      expect([nobody.code, nobody.out, yield* state(repository)]).toEqual([1, "", "Unknown"])
      expect(nobody.err).toContain("give --yes")
      // A program reads what would be the question.
      const json = yield* command([...reset, "--json"], over(repository, { keys: "y" }))
      expect([json.code, json.out, yield* state(repository)]).toEqual([1, "", "Unknown"])
      expect(documents(json.err)).toMatchObject([{ error: "NotConfirmed" }])
      const told = yield* command([...reset, "--json", "--yes"], over(repository))
      expect([told.code, yield* state(repository)]).toEqual([0, "Released"])
      expect(documents(told.out)).toEqual([{ operation: "payout", scope: "tenant-1", key: "payout-7", reset: true }])
    })
  )

  it.scoped("leaves a running owner its key, unless forced; and finds nothing where nothing is", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      const running = ["reset", "payment.charge", "order-1", "--yes"]
      const refused = yield* command(running, over(repository))
      expect(refused.code).toBe(1)
      expect(refused.err).toBe(
        "effect-idempotency: An owner is running it: its lease lasts 1m more, and may be renewed. Nothing was changed. --force takes it away from its owner.\n"
      )
      expect((yield* command([...running, "--force"], over(repository))).code).toBe(0)
      expect((yield* command(["reset", "payment.charge", "order-9", "-y"], over(repository))).code).toBe(3)
    })
  )
})

describe("resolve", () => {
  const resolve = ["resolve", "payout", "payout-7", "--scope", "tenant-1"]
  const outcome = (repository: Repository) =>
    Effect.map(repository.get(ids("payout-7", "payout", "tenant-1")), (found) =>
      found._tag === "Some" ? [found.value.outcome, found.value.result] : undefined
    )

  for (const [args, expected, told] of [
    [["--success", `{"payoutId":"p-1"}`], ["success", { payoutId: "p-1" }], "success"],
    [["--success", ""], ["success", undefined], "success"],
    [["--success=-5"], ["success", -5], "success"],
    [["--failure", `{"_tag":"Declined"}`], ["failure", { _tag: "Declined" }], "failure"],
    [["--unavailable"], ["unavailable", undefined], "unavailable"]
  ] as const) {
    it.scoped(`records ${args.join(" ")}`, () =>
      Effect.gen(function* () {
        const repository = yield* stuck
        const { code, err, out } = yield* command([...resolve, ...args, "--yes", "--json"], over(repository))
        expect([code, err, yield* outcome(repository)]).toEqual([0, "", expected])
        expect(documents(out)).toMatchObject([{ key: "payout-7", resolved: told }])
      })
    )
  }

  it.scoped("takes exactly one outcome, which is JSON, and repeats none that is not", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      for (const args of [
        [],
        ["--success", "1", "--unavailable"],
        ["--success", "1", "--failure", "2"],
        ["--success", "{card: 4242}"],
        ["--failure", "{card: 4242}"],
        ["--failure", ""]
      ]) {
        const { code, err, out } = yield* command([...resolve, ...args, "--yes"], over(repository))
        expect([code, out, err === "", err.includes("4242")], args.join(" ")).toEqual([2, "", false, false])
      }
      expect(yield* outcome(repository)).toBeUndefined()
    })
  )

  it.scoped("asks first, and only for what can be resolved", () =>
    Effect.gen(function* () {
      const repository = yield* stuck
      const asked = yield* command([...resolve, "--success", "1"], over(repository, { keys: "n" }))
      expect([asked.code, yield* outcome(repository)]).toEqual([1, undefined])
      expect(asked.out).toContain("Record that it ended with success?")
      expect((yield* command([...resolve, "--success", "1", "--yes"], over(repository))).code).toBe(0)
      const again = yield* command([...resolve, "--success", "2", "--yes"], over(repository))
      expect(again.code).toBe(1)
      expect(again.err).toContain("is completed, attempt 1, success: only what is unknown")
      expect(yield* outcome(repository)).toEqual(["success", 1])
      const running = ["resolve", "payment.charge", "order-1", "--unavailable", "--yes"]
      expect((yield* command(running, over(repository))).err).toContain("An owner is running it")
      const nothing = ["resolve", "payment.charge", "order-9", "--unavailable", "--yes"]
      expect((yield* command(nothing, over(repository))).code).toBe(3)
    })
  )
})
