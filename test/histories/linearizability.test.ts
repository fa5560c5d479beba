/** The checker on histories that are known to be right or wrong. */
import { describe, expect, it } from "vitest"
import type { History, Operation, StoreClock } from "./history.js"
import {
  cases,
  claim,
  claimed,
  complete,
  done,
  exact,
  inFlight,
  type Line,
  processing,
  read,
  release,
  renew,
  reset,
  settled,
  verdictOf
} from "./knownHistories.js"
import { check } from "./linearizability.js"

describe("the checker", () => {
  for (const [name, { bad, good, offset }] of Object.entries(cases)) {
    it(`finds ${name}`, () => {
      expect(verdictOf(good, offset)).toMatchObject({ _tag: "Linearizable" })
      expect(verdictOf(bad, offset)).toMatchObject({ _tag: "Violation" })
    })
  }

  it("lets a call without an answer take effect late, or never", () => {
    const open: Line = [claim("a"), 0]
    const late: ReadonlyArray<Line> = [
      [claim("b"), 10, 11, claimed()],
      [read, 100, 101, processing("b", 10, 110)],
      [read, 200, 201, { ...processing("a", 150, 250), attempt: 2 }]
    ]
    expect(verdictOf([open, ...late])).toMatchObject({ _tag: "Linearizable" })
    expect(verdictOf([open, ...late.slice(0, 2)])).toMatchObject({ _tag: "Linearizable" })
    expect(verdictOf(late)).toMatchObject({ _tag: "Violation" })
  })

  it("lets a call that would change nothing now change something later", () => {
    const lines: ReadonlyArray<Line> = [
      [complete("a"), 0, 10, done(5)],
      [reset, 15, 60, { _tag: "Reset" }],
      [reset, 20, 21, { _tag: "Reset" }],
      [complete("b"), 30, 31, done(30)],
      [claim("c"), 40, 41, settled("b", 30)],
      [complete("d"), 70, 71, done(70)]
    ]
    expect(verdictOf(lines)).toMatchObject({ _tag: "Linearizable" })
  })

  it("knows the time of an effect from what anybody was told of it", () => {
    // Answered after 60 ms: the lease began at any of them, until a read says at which.
    const slow: Line = [claim("a"), 0, 60, claimed()]
    const taken = (from: number): Line => [claim("b"), from, from + 1, claimed(2)]
    expect(verdictOf([slow, taken(110)])).toMatchObject({ _tag: "Linearizable" })
    const told: Line = [read, 61, 62, processing("a", 40, 140)]
    expect(verdictOf([slow, told, taken(110)])).toMatchObject({ _tag: "Violation" })
    expect(verdictOf([slow, told, taken(140)])).toMatchObject({ _tag: "Linearizable" })
    const refused: Line = [claim("c"), 70, 71, inFlight(71)]
    expect(verdictOf([slow, refused, taken(139)])).toMatchObject({ _tag: "Violation" })
    expect(verdictOf([slow, refused, taken(141)])).toMatchObject({ _tag: "Linearizable" })
  })

  it("lets a store find what has expired for as long as it may linger, and no longer", () => {
    const verdict = (at: number, lingering: number) =>
      check({
        operations: [
          { by: "a", call: complete("a"), invoked: 0, returned: { at: 10, reply: done(5) } },
          { by: "b", call: claim("b"), invoked: at, returned: { at, reply: settled("a", 5) } }
        ],
        clock: { offset: exact, asked: "at the effect", lingering, apart: 0 }
      })._tag
    expect([verdict(1004, 0), verdict(1005, 0)]).toEqual(["Linearizable", "Violation"])
    expect([verdict(1005, 1), verdict(1006, 1)]).toEqual(["Linearizable", "Violation"])
  })

  it("knows of stores that ask their clock some time before a change is seen", () => {
    const operations: ReadonlyArray<Operation> = [
      { by: "a", call: claim("a"), invoked: 0, returned: { at: 0, reply: claimed() } },
      { by: "b", call: claim("b"), invoked: 990, returned: { at: 1010, reply: claimed(2) } },
      { by: "c", call: read, invoked: 1000, returned: { at: 1005, reply: undefined } },
      { by: "d", call: claim("d"), invoked: 1006, returned: { at: 1007, reply: inFlight(90) } }
    ]
    const verdict = (asked: StoreClock["asked"], last: number) =>
      check({ operations: operations.slice(0, last), clock: { offset: exact, asked, lingering: 0, apart: 0 } })._tag
    expect(verdict("during the call", 4)).toBe("Linearizable")
    // The read comes first, or takes place when the first claim had not expired yet.
    expect(verdict("at the effect", 2)).toBe("Linearizable")
    expect(verdict("at the effect", 3)).toBe("Violation")
  })

  it("lets the instants of one operation be apart by as much as the store may have them, and no more", () => {
    const verdict = (by: number, apart: number) =>
      check({
        operations: [
          {
            by: "a",
            call: complete("a"),
            invoked: 0,
            returned: { at: 10, reply: { ...done(5), expiresAt: 1005 + by } }
          }
        ],
        clock: { offset: exact, asked: "during the call", lingering: 0, apart }
      })._tag
    expect([verdict(0, 0), verdict(1, 0)]).toEqual(["Linearizable", "Violation"])
    expect([verdict(1, 1), verdict(3, 1)]).toEqual(["Linearizable", "Violation"])
  })

  it("says how far it came and what cannot be next", () => {
    const verdict = verdictOf(cases["a completion that is lost"]?.bad ?? [])
    const report = verdict._tag === "Linearizable" ? "" : verdict.report
    expect(report).toContain("2 of 3 answers can be explained")
    expect(report).toMatch(/none of these can be next:\n.* 2: claim .*token: 'b'/)
  })

  it("gives up a search that is too long, which is no pass", () => {
    const operations: ReadonlyArray<Operation> = [
      { by: "a", call: claim("a"), invoked: 0, returned: { at: 1, reply: claimed() } },
      { by: "b", call: read, invoked: 2, returned: { at: 3, reply: undefined } }
    ]
    const history: History = { operations, clock: { offset: exact, asked: "at the effect", lingering: 0, apart: 0 } }
    expect(check(history)).toMatchObject({ _tag: "Violation" })
    expect(check(history, { maxVisited: 0 })).toMatchObject({ _tag: "Exhausted" })
  })

  it("ends quickly on many calls without an answer, also if nothing explains the others", () => {
    const open = Array.from(
      { length: 8 },
      (_, n): Operation => ({
        by: `${n}`,
        call: n % 2 === 0 ? claim(`${n}`) : release(`${n - 1}`),
        invoked: n,
        returned: undefined
      })
    )
    const answered = (attempt: number): Operation => ({
      by: "w",
      call: claim("w"),
      invoked: 5000,
      returned: { at: 5001, reply: claimed(attempt) }
    })
    const verdict = (attempt: number) =>
      check({
        operations: [...open, answered(attempt)],
        clock: { offset: exact, asked: "at the effect", lingering: 0, apart: 0 }
      })
    expect(verdict(5)).toMatchObject({ _tag: "Linearizable" })
    expect(verdict(6)).toMatchObject({ _tag: "Violation" })
    expect(verdict(6).visited).toBeLessThan(50_000)
  })

  it("is not lost among calls without an answer of which one explains the rest", () => {
    const open = Array.from({ length: 12 }, (_, n): ReadonlyArray<Line> => {
      const token = `open ${n}`
      return [
        [claim(token), 2 * n],
        [n % 2 === 0 ? complete(token) : release(token), 2 * n + 1]
      ]
    }).flat()
    const reads = Array.from(
      { length: 4 },
      (_, n): ReadonlyArray<Line> => [
        [read, 100 + n, 140 + n, undefined],
        [read, 104 + n, 150 + n, processing("the one", 120, 220)]
      ]
    ).flat()
    const verdict = verdictOf([...open, [claim("the one"), 50], ...reads])
    expect(verdict).toMatchObject({ _tag: "Linearizable" })
    expect(verdict.visited).toBeLessThan(500)
  })

  it("ends quickly on 8 callers who contend for one key, and the more quickly for what it remembers", () => {
    const rounds = Array.from({ length: 25 }, (_, round) =>
      Array.from(
        { length: 8 },
        (_, caller): Operation => ({
          by: `${caller}`,
          call: caller === 0 ? renew("w") : read,
          invoked: 40 * round + caller,
          returned: { at: 40 * round + 39, reply: caller === 0 ? { _tag: "Gone" } : undefined }
        })
      )
    ).flat()
    const last = (reply: unknown): ReadonlyArray<Operation> => [
      ...rounds,
      { by: "w", call: claim("w"), invoked: 999, returned: { at: 1039, reply } }
    ]
    const clock = { offset: exact, asked: "at the effect", lingering: 0, apart: 0 } as const
    const right = check({ operations: last(claimed()), clock })
    expect(right).toMatchObject({ _tag: "Linearizable" })
    expect(right.visited).toBeLessThan(2000)
    // Every order of every round leads to the same end: without a memory there are 8! to the power of 25.
    const wrong = check({ operations: last(claimed(2)), clock })
    expect(wrong).toMatchObject({ _tag: "Violation" })
    expect(wrong.visited).toBeLessThan(10_000)
  })
})
