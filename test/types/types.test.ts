/** What compiles, what does not and why, what declarations name and what hovers show. */
import * as path from "node:path"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { isProof } from "../support/proof.js"
import { type Compilation, type Diagnostic, type Project, project, type Version, versions } from "./compilers.js"
import { hoversOf, moduleOf } from "./hovers.js"
import { preamble, rejections } from "./rejections.js"

const scope = Effect.runSync(Scope.make())
const compiling = new AbortController()

let installed: Project
let declared: ReadonlyArray<Diagnostic>
let declarations: string
let fromSource: { readonly [run: string]: ReadonlyArray<Diagnostic> }
let fromPackage: { readonly [version in Version]?: ReadonlyArray<Diagnostic> }

/**
 * The compilers agree about what the flag does: the fastest one is enough for the short form. There the others see the
 * package as users have it, and not its sources.
 */
const flagsFor = (version: Version): ReadonlyArray<boolean> => (isProof || version === "7" ? [true, false] : [])

/** Who sees the package: in the short form the oldest and the newest. */
const consumers = isProof ? versions : versions.filter((version) => version !== "5.9")

const sourceRuns = versions.flatMap((version) =>
  flagsFor(version).map((exactOptionalPropertyTypes): readonly [string, Compilation] => [
    `TypeScript ${version}, exactOptionalPropertyTypes ${exactOptionalPropertyTypes ? "on" : "off"}`,
    { version, exactOptionalPropertyTypes, fromSource: true, include: ["fixtures"] }
  ])
)

const rejectionNames = Object.keys(rejections)

const rejectionFile = (name: string): string => `rejected/${rejectionNames.indexOf(name)}.ts`

/** A program over the declarations that were written for `fixtures/exports.ts`, not over that module itself. */
const consumer = `
import type * as Effect from "effect/Effect"
import type { Idempotency } from "effect-idempotency"
import { same } from "./fixtures/assert.js"
import { type ChargeError, type Claiming, charge, chargeDated, type DatedReceipt, type Gateway } from "./fixtures/domain.js"
import { bookOnce, booked, chargeAsJson, chargeOnce, charged, once, Payments } from "./fixtures/exports.js"

const piped = chargeDated.pipe(chargeOnce("order-1"))
const dated: Effect.Effect<DatedReceipt, ChargeError | Claiming, Gateway | Idempotency> = piped
same<Effect.Effect.Error<typeof piped>, Effect.Effect.Error<typeof dated>>()
same<Effect.Effect.Context<typeof piped>, Gateway | Idempotency>()

const asJson = charge.pipe(chargeAsJson("order-1"))
const helped = once(charge)
same<typeof asJson, typeof charged>()
same<typeof helped, typeof charged>()
same<ReturnType<Payments["pay"]>, typeof charged>()
const bookedAgain = chargeDated.pipe(bookOnce("order-1"))
same<typeof bookedAgain, typeof booked>()

// @ts-expect-error: another result
charge.pipe(chargeOnce("order-1"))
// @ts-expect-error: a Date comes back as a string
chargeDated.pipe(chargeAsJson("order-1"))
// @ts-expect-error: a Date comes back as a string
once(chargeDated)
// @ts-expect-error: another result
charge.pipe(bookOnce("order-1"))
`

const compileFromPackage = Effect.gen(function* () {
  declared = yield* installed.compile({ version: "5.9", include: ["fixtures"], declarations: "declared" })
  declarations = yield* installed.read("declared/fixtures/exports.d.ts")
  yield* installed.write("declared/consumer.ts", consumer)
  for (const name of rejectionNames) {
    yield* installed.write(rejectionFile(name), preamble + rejections[name]?.code)
  }
  const found = consumers.map((version) =>
    Effect.map(
      installed.compile({
        version,
        include: version === "7" ? ["rejected", "declared", "fixtures"] : ["rejected", "declared"],
        // Those of the version that wrote them need it least, and it is slow.
        checkDeclarations: version !== "5.9"
      }),
      (diagnostics) => [version, diagnostics] as const
    )
  )
  fromPackage = Object.fromEntries(yield* Effect.all(found, { concurrency: "unbounded" }))
})

const compileFromSource = Effect.gen(function* () {
  const found = sourceRuns.map(([name, run]) =>
    Effect.map(installed.compile(run), (diagnostics) => [name, diagnostics] as const)
  )
  fromSource = Object.fromEntries(yield* Effect.all(found, { concurrency: "unbounded" }))
})

beforeAll(
  () =>
    Effect.runPromise(
      Effect.gen(function* () {
        installed = yield* Scope.extend(project, scope)
        yield* Effect.all([compileFromPackage, compileFromSource], { concurrency: "unbounded", discard: true })
      }),
      { signal: compiling.signal }
    ),
  300_000
)

afterAll(() => {
  compiling.abort()
  return Effect.runPromise(Scope.close(scope, Exit.void))
})

const inFolder = (folder: string, diagnostics: ReadonlyArray<Diagnostic> = []): ReadonlyArray<Diagnostic> =>
  diagnostics.filter(({ file }) => file.startsWith(`${folder}/`))

describe("the fixtures compile", () => {
  it.each(sourceRuns.map(([name]) => name))("over the sources: %s", (name) => {
    expect(fromSource[name]).toEqual([])
  })

  it("over the installed package: TypeScript 7", () => {
    expect(inFolder("fixtures", fromPackage["7"])).toEqual([])
  })
})

describe("the package", () => {
  it("has declarations that can be written", () => {
    expect(installed.build).toEqual([])
  })

  it.each(["5.4", "7"] as const)("has declarations that TypeScript %s accepts", (version) => {
    expect(inFolder("node_modules/effect-idempotency", fromPackage[version])).toEqual([])
  })
})

describe.each(consumers)("TypeScript %s rejects", (version) => {
  it.each(rejectionNames)("%s", (name) => {
    const diagnostics = fromPackage[version]?.filter(({ file }) => file === rejectionFile(name)) ?? []
    const rejection = rejections[name]
    const says = version === "7" ? (rejection?.saysIn7 ?? rejection?.says) : rejection?.says
    expect(diagnostics.map(({ message }) => message).join("\n")).toContain(says)
    const lineOfCode = preamble.split("\n").length
    expect(diagnostics.map(({ line }) => line)).toEqual(diagnostics.map(() => lineOfCode))
  })
})

describe("the declarations of a program's exports", () => {
  it("are written without a complaint", () => {
    expect(declared).toEqual([])
  })

  it("name what the package exports, and nothing inside it", () => {
    const named = new Set(Array.from(declarations.matchAll(/(?:import\(|from )"([^"]+)"/g), ([, module]) => module))
    expect(Array.from(named).sort()).toEqual([
      "./domain.js",
      "effect-idempotency",
      "effect-idempotency/consumer",
      "effect/Effect",
      "effect/Exit",
      "effect/Layer",
      "effect/Schema",
      "effect/Stream"
    ])
    expect(declarations).not.toMatch(/\bany\b/)
  })

  it.each(consumers)("compile, and mean the same: TypeScript %s", (version) => {
    expect(inFolder("declared", fromPackage[version])).toEqual([])
  })
})

/** The code of a name, and what its hover shows: result, failures and requirements. */
const hovers: { readonly [name: string]: readonly [code: string, hover: string] } = {
  plain: [
    `charge.pipe(withIdempotency("pay", "k"))`,
    "Effect.Effect<Receipt, ChargeError | IdempotencyInFlightError | IdempotencyResultUnavailableError | IdempotencyValidationError, Gateway | Idempotency>"
  ],
  dataFirst: [
    `withIdempotency(charge, "pay", "k")`,
    "Effect.Effect<Receipt, ChargeError | IdempotencyInFlightError | IdempotencyResultUnavailableError | IdempotencyValidationError, Gateway | Idempotency>"
  ],
  atMostOnce: [
    `charge.pipe(withIdempotency("pay", "k", { guarantee: "at-most-once" }))`,
    "Effect.Effect<Receipt, ChargeError | IdempotencyInFlightError | IdempotencyOutcomeUnknownError | IdempotencyResultUnavailableError | IdempotencyStorageError | IdempotencyValidationError, Gateway | Idempotency>"
  ],
  optimistic: [
    `charge.pipe(withIdempotency("pay", "k", { strategy: "optimistic" }))`,
    "Effect.Effect<Receipt, ChargeError | IdempotencyResultUnavailableError | IdempotencyValidationError, Gateway | Idempotency>"
  ],
  withOptions: [
    `chargeDated.pipe(withIdempotency("pay", "k", { success: DatedReceiptSchema, error: CardDeclined, timeToLive: 60_000 }))`,
    "Effect.Effect<{ readonly id: string; readonly at: Date; }, ChargeError | IdempotencyInFlightError | IdempotencyInvalidTtlError | IdempotencyResultUnavailableError | IdempotencyValidationError, Gateway | Idempotency>"
  ],
  outcome: [
    `charge.pipe(withIdempotencyOutcome("pay", "k"))`,
    "Effect.Effect<IdempotencyOutcome<Receipt>, ChargeError | IdempotencyInFlightError | IdempotencyResultUnavailableError | IdempotencyValidationError, Gateway | Idempotency>"
  ],
  step: [
    `charge.pipe(withIdempotentStep("charge"))`,
    "Effect.Effect<Receipt, ChargeError | IdempotencyResultUnavailableError | IdempotencyValidationError, Gateway | IdempotentExecution>"
  ],
  consumer: [
    `charge.pipe(IdempotentConsumer.process("shipping", "m-1", { maxAttempts: 5 }))`,
    "Effect.Effect<MessageOutcome<Receipt>, ChargeError | IdempotencyInFlightError | IdempotencyResultUnavailableError | IdempotencyValidationError | MessagePoisonedError, Gateway | Idempotency>"
  ],
  batch: [
    `IdempotentConsumer.processBatch("shipping", ["m-1"], { id: (id) => id })(() => charge)`,
    "Effect.Effect<Exit<MessageOutcome<Receipt>, ChargeError | IdempotencyInFlightError | IdempotencyResultUnavailableError | IdempotencyValidationError>[], never, Gateway | Idempotency>"
  ],
  transaction: [
    `charge.pipe(withIdempotentTransaction("pay", "k", { timeToLive: "1 hour" }))`,
    "Effect.Effect<Receipt, ChargeError | IdempotencyInFlightError | IdempotencyInvalidTtlError | IdempotencyResultUnavailableError | IdempotencyStorageError | IdempotencyValidationError, Gateway | Idempotency | IdempotencyTransactions>"
  ],
  inbox: [
    `charge.pipe(IdempotentConsumer.process("shipping", "m-1", { transactional: true }))`,
    "Effect.Effect<MessageOutcome<Receipt>, ChargeError | IdempotencyInFlightError | IdempotencyResultUnavailableError | IdempotencyStorageError | IdempotencyValidationError, Gateway | Idempotency | IdempotencyTransactions>"
  ],
  caught: [
    `charge.pipe(withIdempotency("pay", "k"), Effect.catchIf(isIdempotencyError, Effect.die))`,
    "Effect.Effect<Receipt, ChargeError, Gateway | Idempotency>"
  ]
}

/** On one line, and every union in alphabetical order: the compiler's own order means nothing. */
const normalized = (hover = ""): string =>
  hover.replace(/\s+/g, " ").replace(/\w+(?: \| \w+)+/g, (union) => union.split(" | ").sort().join(" | "))

describe("the hover of a protected effect", () => {
  let shown: { readonly [name: string]: string }

  beforeAll(async () => {
    const code = Object.fromEntries(Object.entries(hovers).map(([name, [text]]) => [name, text]))
    await Effect.runPromise(installed.write("hovers/hovers.ts", moduleOf(preamble, code)))
    shown = hoversOf(path.join(installed.folder, "hovers/hovers.ts"))
  })

  it.each(Object.entries(hovers))("shows plain unions, and no helper type: %s", (name, [, hover]) => {
    expect(normalized(shown[name])).toBe(`const ${name}: ${hover}`)
  })
})
