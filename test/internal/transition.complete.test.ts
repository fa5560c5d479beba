import { describe } from "@effect/vitest"
import {
  completed,
  held,
  lapsed,
  lapsedOnce,
  now,
  outcome,
  processing,
  released,
  steps,
  unknown
} from "../support/states.js"
import {
  checkRows,
  complete,
  done,
  expired,
  mismatch,
  type Row,
  renew,
  superseded
} from "../support/transitionTable.js"

const renewRows: ReadonlyArray<Row> = [
  [
    "Processing, mine",
    processing,
    renew("a"),
    { _tag: "Renewed" },
    { leaseUntil: now + 3_000, expiresAt: now + 7_000 }
  ],
  [
    "Processing, mine, lapsed and at-most-once",
    lapsedOnce,
    renew("a"),
    { _tag: "Renewed" },
    { leaseUntil: now + 3_000, expiresAt: now + 9_000 }
  ],
  ["Absent", undefined, renew("a"), { _tag: "Gone" }, "absent"],
  ["expired", { ...processing, expiresAt: now }, renew("a"), { _tag: "Gone" }, "absent"],
  ["Processing of another", processing, renew("b"), { _tag: "Lost", record: undefined }, "unchanged"],
  ["Unknown, mine", unknown, renew("a"), { _tag: "Lost", record: undefined }, "unchanged"],
  ["Released, mine", released, renew("a"), { _tag: "Lost", record: undefined }, "unchanged"],
  ["Completed, mine", completed, renew("a"), { _tag: "Lost", record: completed }, "unchanged"],
  ["Completed by another", completed, renew("b"), { _tag: "Lost", record: completed }, "unchanged"]
]

const completeRows: ReadonlyArray<Row> = [
  [
    "Processing, mine",
    { ...processing, steps },
    complete({ token: "a" }),
    done(2),
    { _tag: "Completed", token: "a", outcome, createdAt: now, expiresAt: now + 8_000 }
  ],
  ["Processing, mine, lapsed", lapsed, complete({ token: "a" }), done(2), { _tag: "Completed" }],
  ["Unknown(lapsed), mine", unknown, complete({ token: "a" }), done(2), { _tag: "Completed" }],
  ["Unknown(held), mine", held, complete({ token: "a" }), done(2), { _tag: "Completed" }],
  [
    "mine, without a fingerprint",
    processing,
    complete({ token: "a", fingerprint: undefined }),
    done(2),
    { fingerprint: "f" }
  ],
  ["Absent", undefined, complete(), done(1), { _tag: "Completed", token: "b", fingerprint: "f" }],
  ["expired", expired, complete({ fingerprint: "g" }), done(1), { _tag: "Completed", token: "b", fingerprint: "g" }],
  ["Released by another", released, complete(), done(2), { _tag: "Completed", token: "b", attempt: 2 }],
  ["Released, mine", released, complete({ token: "a" }), superseded, "unchanged"],
  [
    "Completed by this token",
    completed,
    complete({ token: "a", outcome: { _tag: "Unavailable" } }),
    { _tag: "Done", attempt: 2, createdAt: completed.createdAt, expiresAt: completed.expiresAt },
    "unchanged"
  ],
  ["Completed by another", completed, complete(), { _tag: "Superseded", record: completed }, "unchanged"],
  [
    "Completed by another, no fingerprint here",
    completed,
    complete({ fingerprint: undefined }),
    { _tag: "Superseded", record: completed },
    "unchanged"
  ],
  ["Completed by another, other fingerprint", completed, complete({ fingerprint: "g" }), mismatch, "unchanged"],
  ["Processing of another", processing, complete(), superseded, "unchanged"],
  ["Processing of another, lapsed", lapsed, complete(), superseded, "unchanged"],
  ["Unknown of another", held, complete(), superseded, "unchanged"]
]

describe("renew", () => checkRows(renewRows))
describe("complete", () => checkRows(completeRows))
