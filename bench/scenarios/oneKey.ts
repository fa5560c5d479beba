/** Many callers of one key, in one process. */
import * as Effect from "effect/Effect"
import { type Idempotency, withIdempotency } from "effect-idempotency"
import type { Run } from "../drive.js"
import { protectedBy } from "../ours.js"
import { sharedNow } from "../processes.js"
import { ensureEqual, makeBody } from "../work.js"

export interface CallersTask {
  readonly url: string
  readonly key: string
  readonly callers: number
  readonly bodyMillis: number
}

export interface CallersReply {
  readonly executions: number
  /** By the clock that processes share; 0 if the body did not run here. */
  readonly bodyEnded: number
  readonly lastAnswer: number
}

/** Many callers of one key at once, each of which has to get what the body made. */
export const callOnce = async (run: Run<Idempotency>, task: Omit<CallersTask, "url">): Promise<CallersReply> => {
  const body = makeBody(200)
  let bodyEnded = 0
  let lastAnswer = 0
  const work = body.effect.pipe(
    Effect.delay(task.bodyMillis),
    Effect.tap(() =>
      Effect.sync(() => {
        bodyEnded = sharedNow()
      })
    )
  )
  const call = Effect.map(withIdempotency(work, "bench", task.key, protectedBy), (result) => {
    lastAnswer = sharedNow()
    return result
  })
  const callers = Array.from({ length: task.callers }, () => call)
  const results = await run(Effect.all(callers, { concurrency: "unbounded" }))
  for (const result of results) ensureEqual(result, body.result, task.key)
  return { executions: body.executions(), bodyEnded, lastAnswer }
}
