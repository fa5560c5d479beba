/** Lists, walked page by page within bounds: a store may give short pages, empty ones, and a key twice. */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { IdempotencyStorageError, IdempotencyValidationError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { IdempotencyRepository } from "../../IdempotencyRepository.js"
import type { ListedState } from "./states.js"

type Repository = Context.Tag.Service<IdempotencyRepository>

export interface Wanted {
  readonly operation?: string | undefined
  readonly keyPrefix?: string | undefined
  readonly state?: ListedState | undefined
  readonly cursor?: string | undefined
}

export interface Bounds {
  /** How many keys: the last page may bring some more. */
  readonly keys: number
  readonly millis: number
}

export interface Walked {
  readonly entries: ReadonlyArray<IdempotencyRepository.Entry>
  /** Where to go on; `undefined` at the end. */
  readonly cursor: string | undefined
  readonly now: number
}

/** A reply holds at most so many: enough to be few calls, few enough to come in time. */
const pageLength = 500

/** A store that gives nothing but empty pages, on a clock that stands still. */
const mostCalls = 4_000

export const rowKey = ({ idempotencyKey, operation, scope }: IdempotencyIdentifiers): string =>
  JSON.stringify([operation, scope ?? null, idempotencyKey])

/** The refusal of the list is a value: a store that cannot list has other pages. */
export const walk = (
  repository: Repository,
  wanted: Wanted,
  bounds: Bounds
): Effect.Effect<Either.Either<Walked, IdempotencyValidationError>, IdempotencyStorageError> =>
  Effect.gen(function* () {
    const found = new Map<string, IdempotencyRepository.Entry>()
    const start = yield* Clock.currentTimeMillis
    let cursor = wanted.cursor
    for (let calls = 1; ; calls++) {
      const page = yield* repository.list({ ...wanted, cursor, limit: Math.min(pageLength, bounds.keys - found.size) })
      for (const entry of page.entries) found.set(rowKey(entry.identifiers), entry)
      cursor = page.cursor
      const spent = (yield* Clock.currentTimeMillis) - start
      if (cursor === undefined || found.size >= bounds.keys || spent >= bounds.millis || calls >= mostCalls) {
        return Either.right({ entries: [...found.values()], cursor, now: page.now })
      }
    }
  }).pipe(Effect.catchTag("IdempotencyValidationError", (error) => Effect.succeed(Either.left(error))))

/** This instant by the store's clock, if it tells; else by this process's. */
export const storeNow = (repository: Repository): Effect.Effect<number> =>
  Effect.catchAll(
    Effect.map(repository.list({ limit: 1 }), ({ now }) => now),
    () => Clock.currentTimeMillis
  )
