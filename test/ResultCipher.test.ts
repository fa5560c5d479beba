import { describe, expect, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { IdempotencyIdentifiers } from "../src/IdempotencyIdentifiers.js"
import { ResultCipher } from "../src/ResultCipher.js"

const bytes = (fill: number) => Redacted.make(new Uint8Array(32).fill(fill))
const ids = (idempotencyKey = "order-1", scope?: string) =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation: "payment.charge", idempotencyKey, scope }))

const belonging: ResultCipher.Context = { identifiers: ids(), kind: "success", attempt: "token.1", step: undefined }

const jsonText = FastCheck.json({ noUnicodeString: false })

describe("AES-256-GCM", () => {
  it.effect("gives back what it was given, in its context alone", () =>
    Effect.gen(function* () {
      const cipher = yield* ResultCipher.make({ keys: [{ id: "a", key: bytes(1) }] })
      yield* Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(jsonText, async (plain) => {
            const encrypted = await Effect.runPromise(cipher.encrypt(plain, belonging))
            expect(encrypted).toMatch(/^a\.[\w-]{16}\.[\w-]+$/)
            expect(await Effect.runPromise(cipher.decrypt(encrypted, belonging))).toBe(plain)
          }),
          { numRuns: 100 }
        )
      )
      for (const plain of ["", "\uFEFF", "é😀\u0000\n"]) {
        expect(yield* Effect.flatMap(cipher.encrypt(plain, belonging), (text) => cipher.decrypt(text, belonging))).toBe(
          plain
        )
      }
      expect(yield* Effect.flip(cipher.encrypt("\uD800", belonging))).toMatchObject({
        message: expect.stringContaining("lone surrogate")
      })
    })
  )

  it.effect("reads what earlier versions have written", () =>
    Effect.gen(function* () {
      const cipher = yield* ResultCipher.make({ keys: [{ id: "2026-01", key: bytes(7) }] })
      const identifiers = ids("order-1", "tenant-1")
      const written = [
        [
          "2026-01.BzmqmTDBw_nzCbH1.He_YYkJN2AYmc6jCZJiubmj3MyA1UY8mwbAiRgE",
          { identifiers, kind: "success", attempt: "token-1", step: undefined }
        ],
        [
          "2026-01.RnLvPs41cP6rKoNw.PCP8KSKO0gwHGUarWrHGgFKo4pxYZSqIRteFTEw",
          { identifiers, kind: "step", attempt: undefined, step: "reserve" }
        ]
      ] as const
      for (const [encrypted, context] of written) {
        expect(yield* cipher.decrypt(encrypted, context)).toBe(`{"paid":true}`)
      }
    })
  )

  it.effect("never encrypts alike twice", () =>
    Effect.gen(function* () {
      const cipher = yield* ResultCipher.make({ keys: [{ id: "a", key: bytes(1) }] })
      const texts = yield* Effect.replicateEffect(cipher.encrypt("1", belonging), 200)
      expect(new Set(texts.map((text) => text.split(".")[1])).size).toBe(200)
    })
  )

  it.effect("refuses a text of which any character is another, or missing", () =>
    Effect.gen(function* () {
      const keys = [
        { id: "a", key: bytes(1) },
        { id: "b", key: bytes(1) }
      ]
      const cipher = yield* ResultCipher.make({ keys })
      const encrypted = yield* cipher.encrypt('{"paid":100}', belonging)
      for (let index = 0; index < encrypted.length; index++) {
        for (const other of [".", "b", "B", "0", "-", "=", " ", ""]) {
          if (other === encrypted[index]) continue
          const forged = encrypted.slice(0, index) + other + encrypted.slice(index + 1)
          expect(yield* Effect.isFailure(cipher.decrypt(forged, belonging)), forged).toBe(true)
        }
        expect(yield* Effect.isFailure(cipher.decrypt(encrypted.slice(0, index), belonging))).toBe(true)
      }
      const [id = "", iv = "", data = ""] = encrypted.split(".")
      const raw = Buffer.from(data, "base64url")
      for (let bit = 0; bit < raw.length * 8; bit++) {
        const flipped = Buffer.from(raw)
        flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
        const forged = `${id}.${iv}.${flipped.toString("base64url")}`
        expect(yield* Effect.isFailure(cipher.decrypt(forged, belonging))).toBe(true)
      }
      for (const forged of ["", "...", `${encrypted}.`, `${encrypted}=`, ` ${encrypted}`]) {
        expect(yield* Effect.isFailure(cipher.decrypt(forged, belonging)), forged).toBe(true)
      }
    })
  )

  it.effect("refuses a text in another context", () =>
    Effect.gen(function* () {
      const cipher = yield* ResultCipher.make({ keys: [{ id: "a", key: bytes(1) }] })
      const numbered = { ...belonging, attempt: 1 }
      const others: ReadonlyArray<ResultCipher.Context> = [
        { ...belonging, identifiers: ids("order-2") },
        { ...belonging, identifiers: ids("order-1", "tenant") },
        { ...belonging, kind: "failure" },
        { ...belonging, attempt: "token.2" },
        { ...belonging, attempt: undefined },
        { ...belonging, attempt: "1" },
        { ...belonging, attempt: undefined, step: "token.1" },
        { ...belonging, kind: "step", attempt: undefined, step: "first" },
        { ...belonging, kind: "step", attempt: undefined, step: "second" }
      ]
      const contexts = [belonging, numbered, ...others]
      for (const here of contexts) {
        const encrypted = yield* cipher.encrypt("1", here)
        for (const there of contexts) {
          expect(yield* Effect.isSuccess(cipher.decrypt(encrypted, there))).toBe(here === there)
        }
      }
    })
  )

  it.effect("rotates: the first key encrypts, all decrypt, and one that is gone does not", () =>
    Effect.gen(function* () {
      const old = { id: "2025", key: bytes(1) }
      const young = { id: "2026", key: Redacted.make(Buffer.alloc(32, 2).toString("base64")) }
      const before = yield* ResultCipher.make({ keys: [old] })
      const during = yield* ResultCipher.make({ keys: [young, old] })
      const after = yield* ResultCipher.make({ keys: [young] })
      const oldText = yield* before.encrypt("1", belonging)
      const youngText = yield* during.encrypt("2", belonging)
      expect(youngText).toMatch(/^2026\./)
      expect(yield* during.decrypt(oldText, belonging)).toBe("1")
      expect(yield* after.decrypt(youngText, belonging)).toBe("2")
      expect(yield* Effect.flip(after.decrypt(oldText, belonging))).toMatchObject({
        message: expect.stringContaining("a key that is not given")
      })
      const impostor = yield* ResultCipher.make({ keys: [{ id: "2025", key: bytes(3) }] })
      for (const never of [
        after.decrypt(oldText, belonging),
        impostor.decrypt(oldText, belonging),
        before.decrypt("2025.cut", belonging)
      ]) {
        expect(yield* Effect.flip(never)).toBeInstanceOf(ResultCipher.Undecryptable)
      }
    })
  )
})

describe("keys", () => {
  it.effect("are validated, all at once, and never told", () =>
    Effect.gen(function* () {
      const secret = "c2VjcmV0LXNlY3JldA=="
      const error = yield* Effect.flip(
        ResultCipher.make({
          keys: [
            { id: "", key: bytes(1) },
            { id: "a.b", key: Redacted.make(new Uint8Array(31)) },
            { id: "twice", key: Redacted.make(secret) },
            { id: "twice", key: Redacted.make(`${"A".repeat(42)}!`) },
            { id: "x".repeat(65), key: bytes(1) }
          ]
        })
      )
      expect(error.issues).toEqual([
        `the id of key 1 is not 1 to 64 letters, digits, "_" and "-"`,
        `the id of key 2 is not 1 to 64 letters, digits, "_" and "-"`,
        "key 2 is not 32 bytes, or their base64",
        "key 3 is not 32 bytes, or their base64",
        "the id of key 4 is used twice",
        "key 4 is not 32 bytes, or their base64",
        `the id of key 5 is not 1 to 64 letters, digits, "_" and "-"`
      ])
      expect(JSON.stringify(error)).not.toContain(secret)
      expect((yield* Effect.flip(ResultCipher.make({ keys: [] }))).issues).toEqual(["there is no key"])
    })
  )

  it.effect("are copied: what becomes of the caller's bytes does not matter", () =>
    Effect.gen(function* () {
      const mine = new Uint8Array(32).fill(1)
      const cipher = yield* ResultCipher.make({ keys: [{ id: "a", key: Redacted.make(mine) }] })
      mine.fill(0)
      const encrypted = yield* cipher.encrypt("1", belonging)
      const same = yield* ResultCipher.make({ keys: [{ id: "a", key: bytes(1) }] })
      expect(yield* same.decrypt(encrypted, belonging)).toBe("1")
    })
  )

  it.scoped("come from Config, in either alphabet of base64", () =>
    Effect.gen(function* () {
      const key = Buffer.alloc(32, 251)
      const keys = Config.map(Config.redacted("RESULT_KEY"), (text) => [{ id: "a", key: text }])
      const cipherFrom = (text: string) =>
        Effect.map(
          Layer.build(
            ResultCipher.layerConfig({ keys }).pipe(
              Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["RESULT_KEY", text]]))))
            )
          ),
          Context.get(ResultCipher)
        )
      const encrypted = yield* Effect.flatMap(cipherFrom(key.toString("base64")), (one) => one.encrypt("1", belonging))
      const other = yield* cipherFrom(key.toString("base64url"))
      expect(yield* other.decrypt(encrypted, belonging)).toBe("1")
      expect(yield* Effect.flip(cipherFrom("short"))).toMatchObject({ _tag: "IdempotencyValidationError" })
    })
  )
})
