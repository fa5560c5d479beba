/** Histories that are known to be wrong, each beside the right one next to it, and what they are written with. */
import type { Call, Interval, Operation } from "./history.js"
import { check } from "./linearizability.js"

const lease = 100
const retention = 1000

export const claim = (token: string, more: { readonly once?: boolean; readonly fingerprint?: string } = {}): Call => ({
  verb: "claim",
  request: {
    token,
    fingerprint: more.fingerprint,
    guarantee: more.once === true ? "at-most-once" : "at-least-once",
    lease,
    retention,
    unknownRetention: 5000
  }
})
export const complete = (token: string, encoded: string = token): Call => ({
  verb: "complete",
  request: { token, outcome: { _tag: "Success", encoded }, fingerprint: undefined, retention }
})
export const renew = (token: string): Call => ({ verb: "renew", request: { token, lease } })
export const release = (token: string): Call => ({ verb: "release", request: { token } })
const hold = (token: string): Call => ({ verb: "hold", request: { token } })
const saveStep = (token: string, name: string): Call => ({ verb: "saveStep", request: { token, name, encoded: "1" } })
export const reset: Call = { verb: "reset", request: { force: true } }
export const read: Call = { verb: "read" }

export const claimed = (attempt = 1, steps: ReadonlyArray<string> = []) => ({
  _tag: "Claimed",
  attempt,
  steps: steps.map((name) => ({ name, encoded: "1" }))
})
export const inFlight = (remaining: number) => ({ _tag: "InFlight", remaining })
export const done = (createdAt: number, attempt = 1) => ({
  _tag: "Done",
  attempt,
  createdAt,
  expiresAt: createdAt + retention
})
const record = (token: string, createdAt: number, { attempt = 1, encoded = token } = {}) => ({
  _tag: "Completed",
  token,
  attempt,
  createdAt,
  expiresAt: createdAt + retention,
  outcome: { _tag: "Success", encoded }
})
export const settled = (...args: Parameters<typeof record>) => ({ _tag: "Settled", record: record(...args) })
export const processing = (token: string, createdAt: number, leaseUntil: number) => ({
  _tag: "Processing",
  token,
  attempt: 1,
  steps: [],
  guarantee: "at-least-once",
  retention,
  unknownRetention: 5000,
  createdAt,
  leaseUntil,
  expiresAt: leaseUntil - lease + retention
})
const renewed = { _tag: "Renewed" }
const released = { _tag: "Released" }
const notHeld = { _tag: "NotHeld" }

/** A call, when it was made, and what was answered when. */
export type Line = readonly [call: Call, invoked: number, returned?: number, reply?: unknown]

export const exact: Interval = { lo: 0, hi: 0 }

export const verdictOf = (lines: ReadonlyArray<Line>, offset: Interval = exact) =>
  check({
    operations: lines.map(
      ([call, invoked, at, reply], index): Operation => ({
        by: `${index}`,
        call,
        invoked,
        returned: at === undefined ? undefined : { at, reply }
      })
    ),
    clock: { offset, asked: "at the effect", lingering: 0, apart: 0 }
  })

interface Case {
  readonly good: ReadonlyArray<Line>
  readonly bad: ReadonlyArray<Line>
  readonly offset?: Interval
}

export const cases: { readonly [name: string]: Case } = {
  "two winners of one claim": {
    good: [
      [claim("a"), 0, 10, claimed()],
      [claim("b"), 2, 8, inFlight(97)]
    ],
    bad: [
      [claim("a"), 0, 10, claimed()],
      [claim("b"), 2, 8, claimed()]
    ]
  },
  "a record that changes": {
    good: [
      [complete("a"), 0, 10, done(5)],
      [claim("b"), 20, 21, settled("a", 5)],
      [complete("a", "another"), 30, 31, done(5)],
      [claim("c"), 40, 41, settled("a", 5)]
    ],
    bad: [
      [complete("a"), 0, 10, done(5)],
      [claim("b"), 20, 21, settled("a", 5)],
      [complete("a", "another"), 30, 31, done(5)],
      [claim("c"), 40, 41, settled("a", 5, { encoded: "another" })]
    ]
  },
  "a record whose time changes": {
    good: [
      [complete("a"), 0, 10, done(5)],
      [read, 20, 21, record("a", 5)]
    ],
    bad: [
      [complete("a"), 0, 10, done(5)],
      [read, 20, 21, record("a", 6)]
    ]
  },
  "a completion that is lost": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [complete("a"), 10, 11, done(10)],
      [claim("b"), 200, 201, settled("a", 10)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [complete("a"), 10, 11, done(10)],
      [claim("b"), 200, 201, claimed(2)]
    ]
  },
  "a stale read after a completion": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [complete("a"), 10, 20, done(15)],
      [read, 12, 30, processing("a", 0, 100)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [complete("a"), 10, 20, done(15)],
      [read, 21, 30, processing("a", 0, 100)]
    ]
  },
  "a token that gets its claim back after its release": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [release("a"), 10, 11, released],
      [claim("a"), 20, 21, { _tag: "Refused" }],
      [claim("b"), 30, 31, claimed(2)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [release("a"), 10, 11, released],
      [claim("a"), 20, 21, claimed(2)]
    ]
  },
  "a lapse before it is due": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 90, 100, claimed(2)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 90, 99, claimed(2)]
    ]
  },
  "a lapse before it is due by a clock that is known within 5 ms": {
    offset: { lo: -5, hi: 5 },
    good: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 85, 90, claimed(2)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 85, 89, claimed(2)]
    ]
  },
  "a lapse that is due and does not come": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 99, 120, inFlight(1)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 102, 120, inFlight(1)]
    ]
  },
  "an attempt that does not grow at a take-over": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 150, 151, claimed(2)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 150, 151, claimed(1)]
    ]
  },
  "an attempt that starts again after a release": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [release("a"), 10, 11, released],
      [claim("b"), 20, 21, claimed(2)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [release("a"), 10, 11, released],
      [claim("b"), 20, 21, claimed(1)]
    ]
  },
  "a renewed lease that was taken over": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [renew("a"), 90, 91, renewed],
      [claim("b"), 150, 151, inFlight(40)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [renew("a"), 90, 91, renewed],
      [claim("b"), 150, 151, claimed(2)]
    ]
  },
  "a renewal by the owner that was taken over": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 150, 151, claimed(2)],
      [renew("a"), 160, 161, { _tag: "Lost" }]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [claim("b"), 150, 151, claimed(2)],
      [renew("a"), 160, 161, renewed]
    ]
  },
  "a take-over under at-most-once": {
    good: [
      [claim("a", { once: true }), 0, 1, claimed()],
      [claim("b"), 150, 151, { _tag: "Unknown", attempt: 1 }]
    ],
    bad: [
      [claim("a", { once: true }), 0, 1, claimed()],
      [claim("b"), 150, 151, claimed(2)]
    ]
  },
  "a claim on a key that is held": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [hold("a"), 10, 11, { _tag: "Held" }],
      [claim("a"), 200, 201, { _tag: "Unknown", attempt: 1 }]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [hold("a"), 10, 11, { _tag: "Held" }],
      [claim("a"), 200, 201, { _tag: "AlreadyMine", attempt: 1, steps: [] }]
    ]
  },
  "a step that is lost at a take-over": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [saveStep("a", "pay"), 10, 11, { _tag: "Saved" }],
      [claim("b"), 150, 151, claimed(2, ["pay"])]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [saveStep("a", "pay"), 10, 11, { _tag: "Saved" }],
      [claim("b"), 150, 151, claimed(2)]
    ]
  },
  "fingerprints that are not compared": {
    good: [
      [claim("a", { fingerprint: "f" }), 0, 1, claimed()],
      [claim("b", { fingerprint: "g" }), 2, 3, { _tag: "Mismatch" }]
    ],
    bad: [
      [claim("a", { fingerprint: "f" }), 0, 1, claimed()],
      [claim("b", { fingerprint: "g" }), 2, 3, inFlight(98)]
    ]
  },
  "a release that others do": {
    good: [
      [claim("a"), 0, 1, claimed()],
      [release("b"), 10, 11, notHeld],
      [claim("b"), 20, 21, inFlight(80)]
    ],
    bad: [
      [claim("a"), 0, 1, claimed()],
      [release("b"), 10, 11, notHeld],
      [claim("b"), 20, 21, claimed(2)]
    ]
  },
  "a record that outlives its retention": {
    good: [
      [complete("a"), 0, 10, done(5)],
      [claim("b"), 1004, 1006, claimed()]
    ],
    bad: [
      [complete("a"), 0, 10, done(5)],
      [claim("b"), 1005, 1006, settled("a", 5)]
    ]
  },
  "a record that goes before its time": {
    good: [
      [complete("a"), 0, 10, done(5)],
      [read, 1003, 1004, record("a", 5)]
    ],
    bad: [
      [complete("a"), 0, 10, done(5)],
      [read, 1003, 1004, undefined]
    ]
  },
  "a reset that does nothing": {
    good: [
      [complete("a"), 0, 10, done(5)],
      [reset, 20, 21, { _tag: "Reset" }],
      [claim("b"), 30, 31, claimed(2)]
    ],
    bad: [
      [complete("a"), 0, 10, done(5)],
      [reset, 20, 21, { _tag: "Reset" }],
      [claim("b"), 30, 31, settled("a", 5)]
    ]
  },
  "a claim without an answer that takes effect twice": {
    good: [
      [claim("a"), 0],
      [release("a"), 10, 11, released],
      [claim("b"), 200, 201, claimed(2)]
    ],
    bad: [
      [claim("a"), 0],
      [release("a"), 10, 11, released],
      [claim("b"), 200, 201, claimed(3)]
    ]
  },
  "an answer from before the call": {
    good: [
      [claim("a"), 0, 10, claimed()],
      [read, 9, 11, processing("a", 5, 105)]
    ],
    bad: [
      [read, 9, 11, processing("a", 5, 105)],
      [claim("a"), 12, 13, claimed()]
    ]
  }
}
