/** AES-256-GCM by Web Crypto, under keys with ids. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { IdempotencyValidationError } from "../IdempotencyError.js"
import type { ResultCipher } from "../ResultCipher.js"
import { isWellFormed } from "./hash.js"
import { storedKey } from "./storedKey.js"

const keyBytes = 32
const ivBytes = 12
const tagBytes = 16

type AesKey = Awaited<ReturnType<typeof globalThis.crypto.subtle.importKey>>

/** As JSON, so that no two contexts share one form. The version changes with the form, or with the algorithm. */
const authenticated = (keyId: string, { attempt, identifiers, kind, step }: ResultCipher.Context) =>
  new TextEncoder().encode(
    JSON.stringify(["effect-idempotency/1", keyId, storedKey(identifiers), kind, attempt ?? null, step ?? null])
  )

const toBase64Url = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64url")

/** The one text of these bytes: what else Node would read as them is refused. */
const fromBase64Url = (text: string) => {
  const bytes = Buffer.from(text, "base64url")
  return bytes.toString("base64url") === text ? bytes : undefined
}

const bytesOf = (key: ResultCipher.Key["key"]) => {
  const value: unknown = Redacted.value<Uint8Array | string>(key)
  if (value instanceof Uint8Array) return new Uint8Array(value)
  return typeof value === "string" && /^[\w+/-]+={0,2}$/.test(value) ? Buffer.from(value, "base64") : undefined
}

const issuesOf = (keys: ReadonlyArray<ResultCipher.Key>): ReadonlyArray<string> => {
  const ids = keys.map(({ id }) => id)
  return [
    ...(keys.length === 0 ? ["there is no key"] : []),
    ...keys.flatMap(({ id, key }, index) => [
      ...(/^[\w-]{1,64}$/.test(id) ? [] : [`the id of key ${index + 1} is not 1 to 64 letters, digits, "_" and "-"`]),
      ...(ids.indexOf(id) === index ? [] : [`the id of key ${index + 1} is used twice`]),
      ...(bytesOf(key)?.length === keyBytes ? [] : [`key ${index + 1} is not ${keyBytes} bytes, or their base64`])
    ])
  ]
}

/** A text that will never be decrypted. */
export class Undecryptable extends Error {
  override readonly name = "Undecryptable"
}

/** Web Crypto tells nothing of what went wrong; nor is anything told that it might. */
const attempt = <A>(what: string, promise: () => Promise<A>): Effect.Effect<A, Error> =>
  Effect.tryPromise({ try: promise, catch: () => new Error(what) })

export const makeAesGcm = ({
  keys
}: ResultCipher.Options): Effect.Effect<Context.Tag.Service<ResultCipher>, IdempotencyValidationError> =>
  Effect.gen(function* () {
    const issues = issuesOf(keys)
    if (issues.length > 0) return yield* Effect.fail(new IdempotencyValidationError({ operation: "", issues }))
    const imported = yield* Effect.forEach(keys, ({ id, key }) =>
      Effect.map(
        attempt("a key cannot be imported", () =>
          globalThis.crypto.subtle.importKey("raw", bytesOf(key) ?? new Uint8Array(), "AES-GCM", false, [
            "encrypt",
            "decrypt"
          ])
        ),
        (aes): readonly [string, AesKey] => [id, aes]
      )
    ).pipe(Effect.orDie)
    const byId = new Map(imported)
    const [first] = imported
    if (first === undefined) return yield* Effect.dieMessage("the keys were validated")
    const [current, currentKey] = first

    return {
      encrypt: (plain, context) =>
        isWellFormed(plain)
          ? attempt("the encryption failed", async () => {
              const iv = globalThis.crypto.getRandomValues(new Uint8Array(ivBytes))
              const algorithm = { name: "AES-GCM", iv, additionalData: authenticated(current, context) }
              const data = new TextEncoder().encode(plain)
              const encrypted = await globalThis.crypto.subtle.encrypt(algorithm, currentKey, data)
              return [current, toBase64Url(iv), toBase64Url(new Uint8Array(encrypted))].join(".")
            })
          : Effect.fail(new Error("the text holds a lone surrogate, which JSON escapes")),
      decrypt: (encrypted, context) => {
        const [id = "", ivText = "", dataText = "", ...more] = encrypted.split(".")
        const iv = fromBase64Url(ivText)
        const data = fromBase64Url(dataText)
        if (more.length > 0 || iv?.length !== ivBytes || data === undefined || data.length < tagBytes) {
          return Effect.fail(new Undecryptable("it is not of the form that this cipher writes"))
        }
        const key = byId.get(id)
        if (key === undefined) {
          return Effect.fail(new Undecryptable("it was encrypted under a key that is not given here"))
        }
        const refusal = "it was changed, belongs to another record, or was encrypted under another key"
        const decrypted = attempt(refusal, async () => {
          const algorithm = { name: "AES-GCM", iv, additionalData: authenticated(id, context) }
          return new TextDecoder("utf-8", { ignoreBOM: true }).decode(
            await globalThis.crypto.subtle.decrypt(algorithm, key, data)
          )
        })
        return Effect.mapError(decrypted, ({ message }) => new Undecryptable(message))
      }
    }
  })
