import { describe } from "@effect/vitest"
import { completed, held, lapsed, now, outcome, processing, released, steps, unknown } from "../support/states.js"
import { checkRows, hold, notHeld, type Row, release, reset, resolve, saveStep } from "../support/transitionTable.js"

const ownerRows: ReadonlyArray<Row> = [
  [
    "release: Processing, mine",
    processing,
    release("a"),
    { _tag: "Released" },
    { _tag: "Released", token: "a", attempt: 2, fingerprint: undefined, expiresAt: now + 7_000 }
  ],
  [
    "release: Processing, mine, with steps",
    { ...processing, steps },
    release("a"),
    { _tag: "Released" },
    { fingerprint: "f", steps }
  ],
  ["release: Unknown(lapsed), mine", unknown, release("a"), { _tag: "Released" }, { _tag: "Released", attempt: 2 }],
  ["release: Unknown(held), mine", held, release("a"), notHeld, "unchanged"],
  ["release: Released, mine", released, release("a"), { _tag: "Released" }, "unchanged"],
  ["release: Released, of another", released, release("b"), notHeld, "unchanged"],
  ["release: Processing of another", processing, release("b"), notHeld, "unchanged"],
  ["release: Completed, mine", completed, release("a"), notHeld, "unchanged"],
  ["release: Absent", undefined, release("a"), notHeld, "absent"],
  [
    "hold: Processing, mine",
    processing,
    hold("a"),
    { _tag: "Held" },
    { _tag: "Unknown", reason: "held", token: "a", expiresAt: now + 9_000 }
  ],
  ["hold: Unknown(held), mine", held, hold("a"), { _tag: "Held" }, "unchanged"],
  ["hold: Unknown(lapsed), mine", unknown, hold("a"), notHeld, "unchanged"],
  ["hold: Processing of another", processing, hold("b"), notHeld, "unchanged"],
  ["hold: Released, mine", released, hold("a"), notHeld, "unchanged"],
  ["hold: Completed, mine", completed, hold("a"), notHeld, "unchanged"],
  ["hold: Absent", undefined, hold("a"), notHeld, "absent"],
  [
    "saveStep: Processing, mine",
    { ...processing, steps },
    saveStep("a"),
    { _tag: "Saved" },
    { steps: [...steps, { name: "two", encoded: "2" }] }
  ],
  ["saveStep: a name that is there", { ...processing, steps }, saveStep("a", "one"), { _tag: "Saved" }, "unchanged"],
  ["saveStep: too much", processing, saveStep("a", "x".repeat(262_144)), { _tag: "TooLarge" }, "unchanged"],
  ["saveStep: Processing of another", processing, saveStep("b"), notHeld, "unchanged"],
  ["saveStep: Unknown, mine", held, saveStep("a"), notHeld, "unchanged"],
  ["saveStep: Released, mine", released, saveStep("a"), notHeld, "unchanged"],
  ["saveStep: Completed, mine", completed, saveStep("a"), notHeld, "unchanged"],
  ["saveStep: Absent", undefined, saveStep("a"), notHeld, "absent"]
]

const operatorRows: ReadonlyArray<Row> = [
  [
    "resolve: Unknown",
    held,
    resolve,
    { _tag: "Resolved" },
    { _tag: "Completed", token: "o", attempt: 2, fingerprint: "f", outcome, expiresAt: now + 7_000 }
  ],
  ["resolve: lapsed", lapsed, resolve, { _tag: "Resolved" }, { _tag: "Completed", token: "o" }],
  ["resolve: Processing, live", processing, resolve, { _tag: "InFlight", remaining: 1_000 }, "unchanged"],
  ["resolve: Released", released, resolve, { _tag: "NotUnknown" }, "unchanged"],
  ["resolve: Completed", completed, resolve, { _tag: "NotUnknown" }, "unchanged"],
  [
    "resolve: Completed by the same resolution",
    { ...completed, token: "o" },
    resolve,
    { _tag: "Resolved" },
    "unchanged"
  ],
  ["resolve: Absent", undefined, resolve, { _tag: "NotUnknown" }, "absent"],
  [
    "reset: Completed",
    completed,
    reset(false),
    { _tag: "Reset" },
    { _tag: "Released", attempt: 2, fingerprint: undefined, expiresAt: completed.expiresAt }
  ],
  ["reset: Unknown", held, reset(false), { _tag: "Reset" }, { _tag: "Released", expiresAt: now + 7_000 }],
  ["reset: lapsed", lapsed, reset(false), { _tag: "Reset" }, { _tag: "Released" }],
  ["reset: Released", released, reset(true), { _tag: "Reset" }, "unchanged"],
  ["reset: Processing, live", processing, reset(false), { _tag: "InFlight", remaining: 1_000 }, "unchanged"],
  [
    "reset: Processing, live, by force",
    processing,
    reset(true),
    { _tag: "Reset" },
    { _tag: "Released", token: "a", attempt: 2 }
  ],
  ["reset: Absent", undefined, reset(true), { _tag: "Absent" }, "absent"]
]

describe("release, hold and saveStep", () => checkRows(ownerRows))
describe("resolve and reset", () => checkRows(operatorRows))
