/** A call in a transaction that is interrupted at any of its steps: the next one is not kept waiting. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import { defaultScheduler, type Scheduler } from "effect/Scheduler"
import { layerSql, SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { SqliteFile, sqliteClient } from "../support/databases.js"
import { freshIds } from "./fixtures.js"

const engine = layerSql().pipe(
  Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration)),
  Layer.provideMerge(sqliteClient),
  Layer.provide(SqliteFile.layer)
)

/** Interrupts a fiber at the step of that number, counted from 0, and has it give way there. */
const interruptingAt = (step: number) => {
  let steps = 0
  const scheduler: Scheduler = {
    scheduleTask: (task, priority, fiber) => defaultScheduler.scheduleTask(task, priority, fiber),
    shouldYield: (fiber) => {
      if (steps++ !== step) return defaultScheduler.shouldYield(fiber)
      fiber.unsafeInterruptAsFork(fiber.id())
      return 0
    }
  }
  return { scheduler, steps: () => steps }
}

layer(engine, { excludeTestServices: true, timeout: 60_000 })("on SQLite", (it) => {
  it.effect("at whichever step", () =>
    Effect.gen(function* () {
      const runtime = yield* Effect.runtime<Layer.Layer.Success<typeof engine>>()
      const run = (key: string) =>
        withIdempotentTransaction(Effect.succeed("booked"), "book", key, { waitTimeout: "100 millis" })
      let [isOver, interrupted] = [false, 0]
      for (let step = 0; !isOver; step++) {
        const { idempotencyKey: key } = freshIds()
        const { scheduler, steps } = interruptingAt(step)
        const exit = yield* Fiber.await(Runtime.runFork(runtime)(run(key), { scheduler }))
        if (Exit.isInterrupted(exit)) interrupted++
        isOver = steps() <= step
        expect(yield* Effect.exit(run(key)), `after step ${step}`).toEqual(Exit.succeed("booked"))
      }
      expect(interrupted).toBeGreaterThan(50)
    })
  )
})
