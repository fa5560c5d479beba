/** What tests of consumers share: an operation that cannot be mistyped, and messages. */
import * as Effect from "effect/Effect"
import { IdempotentConsumer } from "../../src/consumer/IdempotentConsumer.js"
import type { MessageOutcome } from "../../src/consumer/MessageOutcome.js"
import type { Idempotency } from "../../src/Idempotency.js"
import { identifiersOf } from "../support/engineProcess.js"

export const consumer = "shipping"

export interface Message {
  readonly id: string
  readonly body: string
}

export const messageOf = (id: string, body = id): Message => ({ id, body })

export const idOf = (message: Message): string => message.id

/** The identity of a message in the store. */
export const recordOf = (key: string, of = consumer) => identifiersOf({ operation: of, key })

/** Handlers that note which messages they ran for. */
export const noting = () => {
  const handled: Array<string> = []
  return {
    handled,
    handle: (message: Message): Effect.Effect<string> =>
      Effect.sync(() => {
        handled.push(message.body)
        return `shipped ${message.body}`
      })
  }
}

/** `process` for callers whose types promise nothing. */
export const untypedProcess = IdempotentConsumer.process as unknown as (
  handler: Effect.Effect<unknown, unknown>,
  consumer: unknown,
  messageId: unknown,
  options?: { readonly [name: string]: unknown }
) => Effect.Effect<MessageOutcome<unknown>, unknown, Idempotency>
