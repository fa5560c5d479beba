/** Encrypted results in real databases, of claims and of transactions. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotencyRepository,
  ResultCipher,
  withIdempotency
} from "../../src/index.js"
import { SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"
import { dropsLostSteps } from "../support/droppedSteps.js"
import { patient, rowsOf } from "./fixtures.js"

const cipher = ResultCipher.layer({ keys: [{ id: "one", key: Redacted.make(new Uint8Array(32).fill(7)) }] })

const engine = Layer.fresh(Idempotency.layerWith({ storageTimeout: "10 seconds" })).pipe(
  Layer.provideMerge(IdempotencyRepository.layerEncrypted()),
  Layer.provideMerge(SqlIdempotencyRepository.layerWith(patient)),
  Layer.provide([cipher, IdempotencyDomainService.layer, IdempotencyMetrics.layer]),
  Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration))
)

const secret = { card: "4111111111111111" }

const suite = <E>(name: string, client: Layer.Layer<SqlClient.SqlClient, E>) =>
  layer(engine.pipe(Layer.provideMerge(client)), { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    const protections = {
      claims: withIdempotency("pay", "claims"),
      transactions: withIdempotentTransaction("pay", "transactions")
    }
    for (const [key, protect] of Object.entries(protections)) {
      it.effect(`${key}: the result is replayed, and no column holds it as it is`, () =>
        Effect.gen(function* () {
          let runs = 0
          const pay = protect(
            Effect.sync(() => {
              runs++
              return secret
            })
          )
          expect([yield* pay, yield* pay, runs]).toEqual([secret, secret, 1])
          const sql = yield* SqlClient.SqlClient
          const rows = yield* rowsOf(sql, `SELECT * FROM idempotency_records WHERE idempotency_key = '${key}'`)
          expect(rows).toHaveLength(1)
          expect(JSON.stringify(rows)).not.toContain(secret.card)
          expect(JSON.stringify(rows)).toContain("enc1.")
        })
      )
    }

    it.scoped("reset drops the steps of a lost key, and their owner stays refused", () =>
      Effect.gen(function* () {
        const otherCipher = ResultCipher.layer({
          keys: [{ id: "two", key: Redacted.make(new Uint8Array(32).fill(8)) }]
        })
        const other = IdempotencyRepository.layerEncrypted(patient).pipe(
          Layer.provide([SqlIdempotencyRepository.layerWith(patient), otherCipher])
        )
        const lost = Context.get(yield* Layer.build(Layer.fresh(other)), IdempotencyRepository)
        yield* dropsLostSteps(lost, yield* IdempotencyRepository)
      })
    )

    it.effect("a result that is put under another key is refused, and nothing runs", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* Effect.succeed(secret).pipe(withIdempotency("pay", "mine"))
        yield* sql`UPDATE idempotency_records SET idempotency_key = ${"theirs"} WHERE idempotency_key = ${"mine"}`
        const stolen = Effect.dieMessage("it ran").pipe(withIdempotency("pay", "theirs"))
        expect(yield* Effect.flip(stolen)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      })
    )
  })

suite("Postgres", pgClient.pipe(Layer.provide(Postgres.layer)))
suite("SQLite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)))
