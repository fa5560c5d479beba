import { describe } from "@effect/vitest"
import {
  completed,
  held,
  lapsed,
  lapsedOnce,
  now,
  processing,
  released,
  releasedWithSteps,
  steps,
  unknown
} from "../support/states.js"
import { checkRows, claim, expired, mismatch, type Row } from "../support/transitionTable.js"

const claimRows: ReadonlyArray<Row> = [
  [
    "Absent",
    undefined,
    claim(),
    { _tag: "Claimed", attempt: 1, steps: [] },
    { token: "b", attempt: 1, leaseUntil: now + 1_000, expiresAt: now + 8_000 }
  ],
  [
    "Absent, a lease longer than half the retention",
    undefined,
    claim({ lease: 5_000 }),
    { _tag: "Claimed", attempt: 1, steps: [] },
    { expiresAt: now + 10_000 }
  ],
  [
    "Absent, at-most-once",
    undefined,
    claim({ guarantee: "at-most-once" }),
    { _tag: "Claimed", attempt: 1, steps: [] },
    { expiresAt: now + 20_000 }
  ],
  [
    "expired",
    expired,
    claim({ fingerprint: "g" }),
    { _tag: "Claimed", attempt: 1, steps: [] },
    { _tag: "Processing", fingerprint: "g" }
  ],
  [
    "Released",
    released,
    claim({ fingerprint: "g" }),
    { _tag: "Claimed", attempt: 3, steps: [] },
    { token: "b", attempt: 3, fingerprint: "g" }
  ],
  [
    "Released, under another guarantee",
    released,
    claim({ guarantee: "at-most-once" }),
    { _tag: "Claimed", attempt: 3, steps: [] },
    { guarantee: "at-most-once" }
  ],
  ["Released, by the released token", released, claim({ token: "a" }), { _tag: "Refused" }, "unchanged"],
  [
    "Released with steps",
    releasedWithSteps,
    claim({ fingerprint: undefined }),
    { _tag: "Claimed", attempt: 3, steps },
    { fingerprint: "f", steps }
  ],
  ["Released with steps, other fingerprint", releasedWithSteps, claim({ fingerprint: "g" }), mismatch, "unchanged"],
  [
    "Processing, mine",
    processing,
    claim({ token: "a", lease: 9_000 }),
    { _tag: "AlreadyMine", attempt: 2, steps: [] },
    { leaseUntil: now + 9_000, expiresAt: now + 18_000 }
  ],
  [
    "Processing, mine and lapsed",
    lapsedOnce,
    claim({ token: "a" }),
    { _tag: "AlreadyMine", attempt: 2, steps: [] },
    { leaseUntil: now + 1_000, expiresAt: now + 9_000 }
  ],
  ["Processing, mine, other fingerprint", processing, claim({ token: "a", fingerprint: "g" }), mismatch, "unchanged"],
  [
    "Unknown(lapsed), mine",
    unknown,
    claim({ token: "a" }),
    { _tag: "AlreadyMine", attempt: 2, steps: [] },
    { _tag: "Processing", guarantee: "at-most-once", leaseUntil: now + 1_000 }
  ],
  ["Unknown(held), mine", held, claim({ token: "a" }), { _tag: "Unknown", attempt: 2 }, "unchanged"],
  ["Processing of another, live", processing, claim(), { _tag: "InFlight", remaining: 1_000 }, "unchanged"],
  ["Processing of another, live, other fingerprint", processing, claim({ fingerprint: "g" }), mismatch, "unchanged"],
  [
    "Processing of another, lapsed, at-least-once",
    { ...lapsed, steps },
    claim(),
    { _tag: "Claimed", attempt: 3, steps },
    { token: "b", attempt: 3, steps, createdAt: now }
  ],
  [
    "the same, for an at-most-once caller",
    lapsed,
    claim({ guarantee: "at-most-once" }),
    { _tag: "Claimed", attempt: 3, steps: [] },
    { guarantee: "at-least-once" }
  ],
  ["the same, other fingerprint", lapsed, claim({ fingerprint: "g" }), mismatch, "unchanged"],
  [
    "Processing of another, lapsed, at-most-once",
    lapsedOnce,
    claim(),
    { _tag: "Unknown", attempt: 2 },
    { _tag: "Unknown", reason: "lapsed", token: "a", expiresAt: now + 9_000 }
  ],
  ["the same, other fingerprint", lapsedOnce, claim({ fingerprint: "g" }), mismatch, "unchanged"],
  ["Unknown of another", unknown, claim(), { _tag: "Unknown", attempt: 2 }, "unchanged"],
  ["Unknown of another, other fingerprint", held, claim({ fingerprint: "g" }), mismatch, "unchanged"],
  ["Completed", completed, claim(), { _tag: "Settled", record: completed }, "unchanged"],
  [
    "Completed, mine",
    completed,
    claim({ token: "a", fingerprint: undefined }),
    { _tag: "Settled", record: completed },
    "unchanged"
  ],
  ["Completed, other fingerprint", completed, claim({ fingerprint: "g" }), mismatch, "unchanged"],
  [
    "Completed without a fingerprint",
    { ...completed, fingerprint: undefined },
    claim(),
    { _tag: "Settled" },
    "unchanged"
  ]
]

describe("claim", () => checkRows(claimRows))
