/** A scripted server with a client of it that sends keys. */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { HttpIdempotencyClient, type HttpIdempotencyClientOptions } from "../../src/http/HttpIdempotencyClient.js"
import { scriptedServer } from "./scriptedServer.js"

/** Tries follow each other without a wait. */
export const atOnce: HttpIdempotencyClientOptions = { schedule: Schedule.forever }

/** One try for each run of the effect. */
export const once: HttpIdempotencyClientOptions = { maxRetries: 0 }

/** The server, the client, and the client without keys. */
export const connect = (options: HttpIdempotencyClientOptions = atOnce) =>
  Effect.gen(function* () {
    const server = yield* scriptedServer
    const plain = (yield* HttpClient.HttpClient).pipe(HttpClient.mapRequest(HttpClientRequest.prependUrl(server.url)))
    return { server, plain, client: plain.pipe(HttpIdempotencyClient.withIdempotencyKey(options)) }
  })

export const distinct = (keys: Iterable<string>): number => new Set(keys).size
