import { isNoScript, isNotConnected, isUnknownHeader } from "./errors.js"
import type { Script } from "./scripts.js"

/** What the store needs of `ioredis`, in either major: the commands. */
export interface RedisCommands {
  evalsha(sha: string, numberOfKeys: number, keysAndArguments: Array<string>): Promise<unknown>
  eval(script: string, numberOfKeys: number, keysAndArguments: Array<string>): Promise<unknown>
}

/** A connection that only subscribes. */
export interface SubscriberConnection {
  connect(): Promise<void>
  subscribe(...channels: Array<string>): Promise<unknown>
  unsubscribe(...channels: Array<string>): Promise<unknown>
  disconnect(): void
  on(event: "message", listener: (channel: string) => void): unknown
  on(event: "error" | "end", listener: (error?: unknown) => void): unknown
}

/** How a connection that only subscribes differs from the one it is made from. */
export interface SubscriberOptions {
  readonly lazyConnect: true
  readonly autoResubscribe: false
  readonly enableOfflineQueue: false
  readonly enableReadyCheck: false
  readonly readOnly: false
  readonly maxRetriesPerRequest: 0
  readonly retryStrategy: null
  readonly keyPrefix: ""
  readonly keepAlive: number
}

/** A connection for calls that replicas confirm. */
export interface ConfirmingConnection extends RedisCommands {
  connect(): Promise<void>
  wait(replicas: number, milliseconds: number): Promise<number>
  disconnect(): void
  on(event: "error", listener: (error: unknown) => void): unknown
}

/** How a connection for calls that replicas confirm differs from the one it is made from. */
export interface ConfirmingOptions {
  readonly lazyConnect: true
  readonly enableOfflineQueue: false
  readonly enableAutoPipelining: false
  readonly readOnly: false
  readonly maxRetriesPerRequest: 0
  readonly retryStrategy: (times: number) => number
  readonly reconnectOnError: (error: Error) => boolean
  readonly connectTimeout: number
  readonly commandTimeout: number
  readonly socketTimeout: number
  readonly keepAlive: number
}

/** `Redis` of `ioredis`: a single node, or the primary that Sentinel names. */
export interface RedisNodeClient extends RedisCommands {
  readonly options: {
    readonly keyPrefix?: string | undefined
    readonly host?: string | undefined
    readonly port?: number | undefined
  }
  config(subcommand: "GET", parameter: string): Promise<unknown>
  scan(cursor: string, match: "MATCH", pattern: string, count: "COUNT", keys: number): Promise<unknown>
  duplicate(override: SubscriberOptions | ConfirmingOptions): SubscriberConnection & ConfirmingConnection
}

/** `Cluster` of `ioredis`. */
export interface RedisClusterClient extends RedisCommands {
  readonly status: string
  readonly options: { readonly keyPrefix?: string | undefined }
  /** For each slot the addresses of its nodes, its primary's first. */
  readonly slots: ReadonlyArray<ReadonlyArray<string> | undefined>
  nodes(role: "all" | "master"): ReadonlyArray<RedisNodeClient>
}

/** A client of `ioredis` 5 or 6. */
export type RedisClient = RedisNodeClient | RedisClusterClient

export const isCluster = (client: RedisClient): client is RedisClusterClient => "nodes" in client

/** Why what a call has written is not confirmed, or nothing if it is. Never rejected. */
export type Confirmation = Promise<Error | undefined>

/** What a call gave, and where its writes are to be confirmed, whether they are. */
export interface Told {
  readonly replies: unknown
  readonly confirmation?: Confirmation | undefined
}

/** One call of a script, of which exactly one end is told. It cannot be recalled. */
export type Send = (
  script: Script,
  keys: ReadonlyArray<string>,
  args: ReadonlyArray<string>,
  onReplies: (told: Told) => void,
  onFailure: (error: unknown) => void
) => void

/** When what comes in one turn of the event loop is sent. */
export type Turn = (flush: () => void) => void

const told = (replies: unknown): Told => ({ replies })

/** How a command is sent, once it is its turn. */
type Issue = (command: () => Promise<unknown>) => Promise<Told>

const issuePlainly: Issue = (command) => command().then(told)

/** Of what a Cluster has sent before it lost all of its nodes, it says the same as of what it has never sent. */
const issueInCluster =
  (client: RedisClusterClient): Issue =>
  (command) => {
    const mayBeSent = client.status === "ready"
    return command().then(told, (error) => {
      throw mayBeSent && isNotConnected(error) ? new Error("Connection is closed.", { cause: error }) : error
    })
  }

export const issueFor = (client: RedisClient): Issue => (isCluster(client) ? issueInCluster(client) : issuePlainly)

/** Sends scripts by their digests, and as texts where the server does not remember them. */
export const makeSend = (client: RedisCommands, issue: Issue): Send => {
  let knowsHeaders = true

  const send: Send = (script, keys, args, onReplies, onFailure) => {
    const input = [...keys, ...args]
    const withHeader = knowsHeaders
    const text = withHeader ? script.flagged : script.plain
    const onText = (error: unknown) => {
      if (!withHeader || !isUnknownHeader(error)) return onFailure(error)
      knowsHeaders = false
      send(script, keys, args, onReplies, onFailure)
    }
    const onDigest = (error: unknown) =>
      isNoScript(error)
        ? attempt(() => issue(() => client.eval(text.lua, keys.length, input)), onReplies, onText)
        : onFailure(error)
    attempt(() => issue(() => client.evalsha(text.sha, keys.length, input)), onReplies, onDigest)
  }
  return send
}

/** A promise with both of its ends listened to, or the exception in place of one. */
const attempt = (
  call: () => Promise<Told>,
  onReply: (told: Told) => void,
  onFailure: (error: unknown) => void
): void => {
  try {
    void call().then(onReply, onFailure)
  } catch (error) {
    onFailure(error)
  }
}
