/**
 * Redis holds bytes that this library did not write. Whoever asks gets a typed error or what the record says;
 * over what cannot be read nothing runs, and a reset frees the key.
 */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { Redis } from "ioredis"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { storedKey } from "../../src/internal/storedKey.js"
import { driverOver } from "../redis/fixtures.js"
import { type Due, examine, type HostileStore, holdsFor, hostileStore, payloads } from "../support/hostileStores.js"
import { isProof } from "../support/proof.js"
import { StandaloneRedis } from "../support/redisServers.js"
import { freshIds, minute } from "../support/requests.js"
import { dueOfRecord } from "./recordFormat.js"

const far = 4_000_000_000_000

/** Records as this version writes them, of every state. */
const sound = {
  processing: `1 P t 1 1000 ${far} 60000 60000 l -\n`,
  lapsed: "1 P t 1 1000 2000 60000 60000 m print\n",
  steps: `1 P t 2 1000 ${far} 60000 60000 l -\n3 3 3 3\none"1"`,
  unknown: "1 U t 1 1000 0 60000 60000 mh -\n",
  completed: `1 C t 1 1000 ${far} 0 0 s print\n{"id":"ch-1"}`,
  released: "1 R t 3 1000 0 60000 0 - -\n"
} as const

const withNumber = (number: string): ReadonlyArray<string> => [
  `1 P t ${number} 1000 ${far} 60000 60000 l -\n`,
  `1 P t 1 ${number} ${far} 60000 60000 l -\n`,
  `1 P t 1 1000 ${number} 60000 60000 l -\n`,
  `1 P t 1 1000 2000 ${number} 60000 l -\n`,
  `1 P t 1 1000 2000 60000 ${number} m -\n`,
  `1 U t ${number} 1000 0 60000 60000 mh -\n`,
  `1 C t ${number} 1000 ${far} 0 0 s -\n1`,
  `1 C t 1 ${number} ${far} 0 0 s -\n1`,
  `1 C t 1 1000 ${number} 0 0 s -\n1`,
  `1 R t ${number} 1000 0 60000 0 - -\n`,
  `1 R t 1 1000 0 ${number} 0 - -\n`,
  `1 P t 1 1000 ${far} 60000 60000 l -\n${number} 1 1 1\nab`,
  `1 P t 1 1000 ${far} 60000 60000 l -\n1 1 ${number} 1\nab`
]

const strings: ReadonlyArray<readonly [what: string, values: ReadonlyArray<string>]> = [
  ["nothing", [""]],
  ["other formats", ["done", "null", "{}", '{"status":"done"}', "0", "\n", " ", "1", "1 ", "1 C"]],
  ["other versions", ["0", "2", "10", "01", "1.0", "-1", "v1"].map((version) => sound.completed.replace("1", version))],
  ["other states", ["c", "X", "PC", "", "\u0000"].map((tag) => sound.completed.replace("C", tag))],
  ["other outcomes", ["x", "S", "ss", "", "-"].map((tag) => sound.completed.replace(" s ", ` ${tag} `))],
  ["other guarantees", ["x", "ll", "", "-"].map((tag) => sound.processing.replace(" l ", ` ${tag} `))],
  ["other reasons", ["m", "mx", "xh", "-"].map((tag) => sound.unknown.replace(" mh ", ` ${tag} `))],
  [
    "more and fewer spaces",
    [` ${sound.completed}`, sound.completed.replace(" ", "  "), sound.completed.replace(" t", "")]
  ],
  ["other line feeds", [sound.completed.replace("\n", "\r\n"), sound.completed.replace("\n", "\u2028")]],
  [
    "tokens and fingerprints",
    ["%", "%zz", "%2", "%00", "__proto__", "constructor", "-", "é", "\u0000"].map(
      (token) => `1 C ${token} 1 1000 ${far} 0 0 s ${token}\n1`
    )
  ],
  ["numbers of 20 digits", withNumber("9".repeat(20))],
  ["numbers of 400 digits", withNumber("9".repeat(400))],
  ["numbers beyond the end of time", withNumber("8640000000000001")],
  ["numbers that are none", (isProof ? ["-", "1e3", "0x10", "1.5", "٣", "-1"] : ["1e3", "-1"]).flatMap(withNumber)],
  ["zero", withNumber("0")],
  ["steps that overlap", [`1 P t 1 1000 ${far} 60000 60000 l -\n1 1 1 1\nab1 1 9 9\nab`]],
  ["steps of a prototype", [`1 P t 1 1000 2000 60000 60000 l -\n9 1 9 1\n__proto__1`]]
]

const prefix = "hostile:"
const keyOf = (ids: IdempotencyIdentifiers) => prefix + storedKey(ids)

const mutated = FastCheck.record({
  record: FastCheck.constantFrom(...Object.values(sound)).map((text) => Buffer.from(text)),
  changes: FastCheck.array(
    FastCheck.record({
      at: FastCheck.nat(60),
      removed: FastCheck.nat(3),
      added: FastCheck.oneof(
        FastCheck.uint8Array({ maxLength: 4 }),
        FastCheck.stringOf(FastCheck.constantFrom(..."0123456789 PUCRlmhsfu-%\n"), { maxLength: 6 }).map((text) =>
          Buffer.from(text)
        )
      )
    }),
    { minLength: 1, maxLength: 4 }
  )
}).map(({ changes, record }) =>
  changes.reduce(
    (bytes, { added, at, removed }) => Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + removed)]),
    record
  )
)

const bytes = FastCheck.oneof(
  { weight: 1, arbitrary: FastCheck.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)) },
  { weight: 4, arbitrary: mutated }
)

layer(StandaloneRedis.layer, { excludeTestServices: true })("Redis", (it) => {
  const setup = Effect.gen(function* () {
    const { port } = yield* StandaloneRedis
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => new Redis({ host: "127.0.0.1", port })),
      (client) => Effect.sync(() => client.disconnect())
    )
    const driver = yield* driverOver(redis, prefix)
    const store = yield* hostileStore(yield* IdempotencyRepository.make(driver, { operationTimeout: "20 seconds" }))
    const sent = (send: () => Promise<unknown>) => Effect.promise(send)
    return { redis, store, sent }
  })

  const examineString = (redis: Redis, store: HostileStore, value: string | Buffer) =>
    Effect.suspend(() => {
      const ids = freshIds()
      return examine(
        store,
        ids,
        Effect.promise(() => redis.set(keyOf(ids), value, "PX", 10 * minute)),
        dueOfRecord(value)
      )
    })

  it.scoped.each(strings)("%s", ([, values]) =>
    Effect.gen(function* () {
      const { redis, store } = yield* setup
      const problems: Array<string> = []
      for (const value of values) {
        const found = yield* examineString(redis, store, value)
        problems.push(...found.map((problem) => `${JSON.stringify(value.slice(0, 90))}: ${problem}`))
      }
      expect(problems).toEqual([])
    })
  )

  it.scoped("records that were cut short", () =>
    Effect.gen(function* () {
      const { redis, store } = yield* setup
      for (const record of Object.values(sound)) {
        for (let length = 0; length < record.length; length += isProof ? 1 : 11) {
          const cut = record.slice(0, length)
          expect(yield* examineString(redis, store, cut), cut).toEqual([])
        }
      }
    })
  )

  it.scoped("values of other types, with and without an end", () =>
    Effect.gen(function* () {
      const { redis, sent, store } = yield* setup
      const unreadable: Due = { state: "Corrupted" }
      const writes: ReadonlyArray<readonly [write: (key: string) => Promise<unknown>, due: Due | undefined]> = [
        [(key) => redis.rpush(key, sound.completed), unreadable],
        [(key) => redis.hset(key, "state", sound.completed), unreadable],
        [(key) => redis.sadd(key, sound.completed), unreadable],
        [(key) => redis.zadd(key, 1, sound.completed), unreadable],
        [(key) => redis.xadd(key, "*", "state", sound.completed), unreadable],
        [(key) => redis.pfadd(key, "a"), unreadable],
        [(key) => redis.setbit(key, 7, 1), unreadable],
        [(key) => redis.set(key, "42"), unreadable],
        // A record that was made to stay.
        [(key) => redis.set(key, sound.completed), dueOfRecord(sound.completed)],
        [(key) => redis.set(key, sound.processing), { state: "Processing" }]
      ]
      for (const [write, due] of writes) {
        const ids = freshIds()
        const key = keyOf(ids)
        const written = sent(() => redis.del(key).then(() => write(key)))
        expect(yield* examine(store, ids, written, due), String(write)).toEqual([])
      }
    })
  )

  it.scoped("10 MiB", () =>
    Effect.gen(function* () {
      const { redis, store } = yield* setup
      const long = "x".repeat(10 * 1024 * 1024)
      const records = isProof ? [`${sound.completed.split("\n")[0]}\n"${long}"`, `${sound.processing}${long}`] : []
      for (const value of [long, ...records]) {
        expect(yield* examineString(redis, store, value), value.slice(0, 40)).toEqual([])
      }
    })
  )

  it.scoped(
    "random bytes, and records with bytes changed",
    () =>
      Effect.gen(function* () {
        const { redis, store } = yield* setup
        yield* holdsFor(bytes, isProof ? 3_000 : 80, (value) => examineString(redis, store, value))
      }),
    120_000
  )

  it.scoped.each(payloads)("a result that is %s", ([, encoded]) =>
    Effect.gen(function* () {
      const { redis, store } = yield* setup
      expect(yield* examineString(redis, store, `1 C t 1 1000 ${far} 0 0 s -\n${encoded}`)).toEqual([])
      expect({}).not.toHaveProperty("polluted")
    })
  )
})
