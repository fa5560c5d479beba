/** A process of many callers of one key. */

import * as ManagedRuntime from "effect/ManagedRuntime"
import type { Idempotency } from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import type { Run } from "../drive.js"
import { engineOver } from "../ours.js"
import { answer } from "../processes.js"
import { type CallersReply, type CallersTask, callOnce } from "./oneKey.js"

const runtimes = new Map<string, Run<Idempotency>>()

const runOn = (url: string): Run<Idempotency> => {
  const known = runtimes.get(url)
  if (known !== undefined) return known
  const runtime = ManagedRuntime.make(engineOver(RedisIdempotencyRepository.layerClient({ url })))
  const run: Run<Idempotency> = (effect) => runtime.runPromise(effect)
  runtimes.set(url, run)
  return run
}

answer<CallersTask, CallersReply>(({ url, ...task }) => callOnce(runOn(url), task))
