import { describe, expect, it } from "@effect/vitest"
import { isRefusedForMemory, MemberFailure, storageError } from "../../src/internal/redis/errors.js"

const reply = (message: string): Error => Object.assign(new Error(message), { name: "ReplyError" })
const system = (code: string, message = `connect ${code} 127.0.0.1:1`): Error =>
  Object.assign(new Error(message), { code })

const sorted = (error: unknown): string => {
  const { applied, cause, operation, method, reason } = storageError("payment.charge", "claim")(error)
  expect([operation, method, cause]).toEqual(["payment.charge", "claim", error])
  return `${reason}, ${applied}`
}

describe("failures are sorted", () => {
  it.each([
    ["NOSCRIPT No matching script. Please use EVAL.", "Unavailable, no"],
    ["READONLY You can't write against a read only replica.", "Unavailable, no"],
    ["LOADING Redis is loading the dataset in memory", "Unavailable, no"],
    ["MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "Unavailable, no"],
    ["CLUSTERDOWN The cluster is down", "Unavailable, no"],
    ["TRYAGAIN Multiple keys request during rehashing of slot", "Unavailable, no"],
    ["BUSY Redis is busy running a script.", "Unavailable, no"],
    ["ERR max number of clients reached", "Unavailable, no"],
    ["OOM command not allowed when used memory > 'maxmemory'.", "Rejected, no"],
    [
      "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
      "Rejected, no"
    ],
    ["NOREPLICAS Not enough good replicas to write.", "Rejected, no"],
    ["NOAUTH Authentication required.", "Misconfigured, no"],
    ["Ready check failed: NOAUTH Authentication required.", "Misconfigured, no"],
    ["WRONGPASS invalid username-password pair or user is disabled.", "Misconfigured, no"],
    ["NOPERM this user has no permissions to run the 'evalsha' command", "Misconfigured, no"],
    ["CROSSSLOT Keys in request don't hash to the same slot", "Misconfigured, no"],
    ["MOVED 1234 127.0.0.1:7001", "Misconfigured, no"],
    ["ERR This instance has cluster support disabled", "Misconfigured, no"],
    ["ERR unknown command 'evalsha', with args beginning with: ", "Misconfigured, no"],
    ["ERR The user executing the script can't run this command or subcommand script: x", "Misconfigured, unknown"],
    ["ERR user_script:3: attempt to index a nil value script: 123, on @user_script:3.", "Rejected, unknown"],
    ["WRONGTYPE Operation against a key holding the wrong kind of value", "Rejected, unknown"]
  ])("of the server: %s", (message, expected) => expect(sorted(reply(message))).toBe(expected))

  it.each([
    [new Error("Stream isn't writeable and enableOfflineQueue options is false"), "Unavailable, no"],
    [new Error("Cluster isn't ready and enableOfflineQueue options is false"), "Unavailable, no"],
    [system("ECONNREFUSED"), "Unavailable, no"],
    [system("ENOTFOUND", "getaddrinfo ENOTFOUND nowhere.invalid"), "Unavailable, no"],
    [new AggregateError([system("ECONNREFUSED")], ""), "Unavailable, no"],
    [system("ETIMEDOUT", "connect ETIMEDOUT"), "Unavailable, no"],
    [system("ECONNRESET", "read ECONNRESET"), "Unavailable, unknown"],
    [system("EPIPE", "write EPIPE"), "Unavailable, unknown"],
    [new Error("Connection is closed."), "Unavailable, unknown"],
    [new Error("None of startup nodes is available"), "Unavailable, unknown"],
    [new Error("Reached the max retries per request limit (which is 1)."), "Unavailable, unknown"],
    [new Error("Too many Cluster redirections. Last error: ReplyError: MOVED 1 127.0.0.1:1"), "Unavailable, unknown"],
    [new Error("Command timed out"), "Timeout, unknown"],
    [
      Object.assign(new Error("Failed to refresh slots cache."), { lastNodeError: reply("NOAUTH x") }),
      "Misconfigured, no"
    ],
    [
      Object.assign(new Error("Failed to refresh slots cache."), { lastNodeError: system("ECONNREFUSED") }),
      "Unavailable, no"
    ],
    [new MemberFailure("OOM command not allowed"), "Rejected, no"],
    [new MemberFailure("user_script:1: attempt to index a nil value"), "Rejected, unknown"],
    ["not even an error", "Unavailable, unknown"]
  ])("of the client: %s", (error, expected) => expect(sorted(error)).toBe(expected))

  it("a refusal for want of memory, disk or replicas is known as such", () => {
    for (const code of ["OOM", "MISCONF", "NOREPLICAS"]) expect(isRefusedForMemory(reply(`${code} x`))).toBe(true)
    for (const code of ["READONLY", "LOADING", "ERR"]) expect(isRefusedForMemory(reply(`${code} x`))).toBe(false)
  })
})
