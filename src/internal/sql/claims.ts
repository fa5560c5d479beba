/** First claims on Postgres: one round trip, and one for all that come in the same turn of the event loop. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { ClaimReply, ClaimRequest } from "../protocol.js"
import * as transition from "../transition.js"
import { isMembersFault } from "./errors.js"
import { type Found, foundOf, identityOf, type Run } from "./records.js"
import { integerOf, type Row } from "./row.js"

/** Milliseconds after which to ask again for a row that an open transaction holds. */
export const inTransactionOf = 1000

export type FirstClaim =
  | Extract<ClaimReply, { readonly _tag: "Claimed" }>
  /** The key has a row, which is what was found; or it was being written just then. */
  | { readonly _tag: "There"; readonly found: Found | undefined }

export interface Claims {
  readonly claim: (identifiers: IdempotencyIdentifiers, request: ClaimRequest) => Effect.Effect<FirstClaim, SqlError>
}

interface Member {
  readonly parameters: ReadonlyArray<unknown>
  readonly resume: (reply: Effect.Effect<FirstClaim, SqlError>) => void
  /** Nobody waits any more: what has not been sent need not be. */
  givenUp: boolean
}

/** A statement holds so many claims at most. */
const membersPerStatement = 128

/** What the claim of an absent key leads to, as durations from now. */
const parametersOf = (identifiers: IdempotencyIdentifiers, request: ClaimRequest): ReadonlyArray<unknown> => {
  const { state } = transition.claim(undefined, request, 0)
  return [
    ...identityOf(identifiers),
    request.token,
    request.fingerprint ?? null,
    request.guarantee,
    Math.trunc(request.lease),
    Math.trunc(state?.expiresAt ?? 0),
    Math.trunc(request.retention),
    Math.trunc(request.unknownRetention)
  ]
}

const claimed: FirstClaim = { _tag: "Claimed", attempt: 1, steps: [] }

const replyOf = (row: Row | undefined): FirstClaim => {
  if (row?.["fresh"] === true) return claimed
  return { _tag: "There", found: row?.["version"] == null ? undefined : foundOf(row) }
}

export const makeClaims = (run: Run, text: (count: number) => string): Effect.Effect<Claims, never, Scope.Scope> =>
  Effect.map(Effect.zip(Effect.runtime(), Effect.scope), ([runtime, scope]): Claims => {
    let gathered: Array<Member> = []

    const send = (members: Array.NonEmptyArray<Member>): Effect.Effect<void> =>
      Effect.matchEffect(
        run(
          text(members.length),
          members.flatMap(({ parameters }) => parameters)
        ),
        {
          onFailure: (error) =>
            members.length > 1 && isMembersFault(error)
              ? Effect.forEach(members, (member) => send([member]), { concurrency: "unbounded", discard: true })
              : Effect.sync(() => {
                  for (const { resume } of members) resume(Effect.fail(error))
                }),
          onSuccess: ({ rows }) =>
            Effect.sync(() => {
              const byMember = new Map(rows.map((row) => [integerOf(row["member"]), row] as const))
              for (const [index, { resume }] of members.entries()) resume(Effect.succeed(replyOf(byMember.get(index))))
            })
        }
      )

    const flush = (): void => {
      const members = gathered.filter(({ givenUp }) => !givenUp)
      gathered = []
      for (const chunk of Array.chunksOf(members, membersPerStatement)) Runtime.runFork(runtime)(send(chunk), { scope })
    }

    return {
      claim: (identifiers, request) =>
        Effect.async((resume) => {
          const member: Member = { parameters: parametersOf(identifiers, request), resume, givenUp: false }
          if (gathered.length === 0) process.nextTick(flush)
          gathered.push(member)
          return Effect.sync(() => {
            member.givenUp = true
          })
        })
    }
  })
