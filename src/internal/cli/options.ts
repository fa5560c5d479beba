/** What the commands have in common: where the records are, which one is meant, and how to print. */
import * as Args from "@effect/cli/Args"
import * as Options from "@effect/cli/Options"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { type CliFailure, fromLibrary, usage } from "./failure.js"
import { Stores } from "./stores.js"
import { jsonLine } from "./text.js"

/** The variable that stands for `--store`. */
export const storeVariable = "IDEMPOTENCY_STORE"

export const storeOptions = {
  store: Options.redacted("store").pipe(
    Options.optional,
    Options.withPseudoName("url"),
    Options.withDescription(
      `Where the records are: redis://, rediss://, postgres://, mysql://, or sqlite: with a path. ${storeVariable} in the environment by default`
    )
  ),
  table: Options.text("table").pipe(
    Options.optional,
    Options.withDescription("The table of a SQL database; idempotency_records by default")
  ),
  redisPrefix: Options.text("redis-prefix").pipe(
    Options.optional,
    Options.withPseudoName("prefix"),
    Options.withDescription("What the keys in Redis begin with; idempotency: by default")
  ),
  cluster: Options.boolean("cluster").pipe(Options.withDescription("The URL is that of a node of a Redis Cluster"))
}

export const json = Options.boolean("json").pipe(Options.withDescription("Print JSON, for programs"))

export const yes = Options.boolean("yes").pipe(
  Options.withAlias("y"),
  Options.withDescription("Do not ask. Needed where nobody can be asked")
)

export const keyArguments = {
  operation: Args.text({ name: "operation" }).pipe(Args.withDescription("The operation")),
  key: Args.text({ name: "key" }).pipe(Args.withDescription("The idempotency key; after -- if it begins with a dash")),
  scope: Options.text("scope").pipe(
    Options.optional,
    Options.withDescription("The scope, where the operation's calls have one")
  )
}

export interface StoreArguments {
  readonly store: Option.Option<Redacted.Redacted<string>>
  readonly table: Option.Option<string>
  readonly redisPrefix: Option.Option<string>
  readonly cluster: boolean
}

export interface KeyArguments {
  readonly operation: string
  readonly key: string
  readonly scope: Option.Option<string>
}

export type Repository = Context.Tag.Service<IdempotencyRepository>

const storeFromEnvironment = Effect.orElseSucceed(Config.option(Config.redacted(storeVariable)), () => Option.none())

/** The repository that the options name, for the scope. */
export const openStore = ({
  cluster,
  redisPrefix,
  store,
  table
}: StoreArguments): Effect.Effect<Repository, CliFailure, Scope.Scope | Stores> =>
  Effect.gen(function* () {
    const found = Option.isSome(store) ? store : yield* storeFromEnvironment
    if (Option.isNone(found)) {
      return yield* Effect.fail(
        usage(`Say where the records are: --store with a URL, or ${storeVariable} in the environment.`)
      )
    }
    const stores = yield* Stores
    return yield* stores.open({
      url: found.value,
      table: Option.getOrUndefined(table),
      redisPrefix: Option.getOrUndefined(redisPrefix),
      cluster
    })
  })

export const identifiersOf = ({
  key,
  operation,
  scope
}: KeyArguments): Effect.Effect<IdempotencyIdentifiers, CliFailure> =>
  Effect.mapError(
    IdempotencyIdentifiers.from({ operation, idempotencyKey: key, scope: Option.getOrUndefined(scope) }),
    fromLibrary
  )

/** The store's instant, which ages and leases are about; this machine's where the store cannot list. */
export const nowOf = (repository: Repository): Effect.Effect<number> =>
  repository.list({ limit: 1 }).pipe(
    Effect.map(({ now }) => now),
    Effect.orElse(() => Clock.currentTimeMillis)
  )

export const print = (...lines: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.forEach(lines, (line) => Console.log(line), { discard: true })

export const printJson = (document: unknown): Effect.Effect<void> => print(jsonLine(document))
