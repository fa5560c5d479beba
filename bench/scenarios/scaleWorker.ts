/** A process that makes first executions on a server for a while, ours or raw. */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { engineOver, oursOver, runOver } from "../ours.js"
import { answer } from "../processes.js"
import { attach, type Bench, raw, redisLayer } from "../redisStore.js"
import { ensure } from "../work.js"

export interface ScaleTask {
  readonly port: number
  readonly kind: "ours" | "raw"
  readonly prefix: string
  readonly count: number
  readonly concurrency: number
}

export interface ScaleReply {
  readonly millis: number
}

let bench: Bench | undefined
const scope = Effect.runSync(Scope.make())

const subjectOf = (server: Bench, kind: ScaleTask["kind"]) =>
  kind === "raw"
    ? raw(server, 200)
    : Effect.gen(function* () {
        const run = yield* runOver(engineOver(yield* redisLayer(server)))
        return oursOver(run, server.store, 200)[0]
      })

const subjects = new Map<ScaleTask["kind"], Effect.Effect.Success<ReturnType<typeof subjectOf>>>()

answer<ScaleTask, ScaleReply>(async ({ concurrency, count, kind, port, prefix }) => {
  const inScope = Scope.extend(scope)
  bench ??= await Effect.runPromise(inScope(attach(port)))
  const subject = subjects.get(kind) ?? (await Effect.runPromise(inScope(subjectOf(bench, kind))))
  subjects.set(kind, subject)
  const before = subject.body.executions()
  const keyOf = (index: number) => `${prefix}-${index}`
  const { millis } = await subject.first({ count, concurrency, keyOf, timeEvery: 1 })
  ensure(subject.body.executions() - before === count, `${kind}: executions of ${count} keys`)
  return { millis }
})
