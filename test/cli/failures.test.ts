/** What the command says of itself, and of what goes wrong. */
import { readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { fromLibrary } from "../../src/internal/cli/failure.js"
import { peerVersions } from "../../src/internal/cli/packages.js"
import { load, nodeOf } from "../../src/internal/cli/stores.js"
import { command, documents, memory, over, type Surroundings } from "./support.js"

describe("help", () => {
  it.effect("names the commands and their options, in colours on a terminal alone", () =>
    Effect.gen(function* () {
      const { code, err, out } = yield* command(["resolve", "--help"])
      expect([code, err]).toEqual([0, ""])
      for (const option of ["--store url", "--success json", "--unavailable", "<key>"]) expect(out).toContain(option)
      expect(out).not.toContain("\u001b")
      expect((yield* command(["--help"], { keys: "" })).out).toContain("\u001b")
      expect((yield* command(["--version"])).out.trim()).toBe("1.2.3")
    })
  )
})

describe("a node of a cluster", () => {
  it("is where its URL says, by name or by address", () => {
    for (const [url, host, port] of [
      ["redis://user:word@redis.internal", "redis.internal", 6379],
      ["redis://127.0.0.1:7001", "127.0.0.1", 7001],
      ["rediss://:word@[::1]:7001/0", "::1", 7001],
      ["redis://[2001:db8::7]", "2001:db8::7", 6379]
    ] as const) {
      expect(nodeOf(new URL(url))).toEqual({ host, port })
    }
  })
})

describe("what goes wrong", () => {
  const failing = (error: IdempotencyStorageError) =>
    over({ ...Effect.runSync(Effect.scoped(memory)), list: () => Effect.fail(error) })

  it.effect("is told in a sentence, with what lies beneath it and without the password", () =>
    Effect.gen(function* () {
      const error = new IdempotencyStorageError({
        operation: "",
        method: "list",
        reason: "Unavailable",
        applied: "no",
        cause: new Error("outer", {
          cause: new AggregateError([new Error("no way to redis://:s3cret-word@localhost, with s3cret-word")])
        })
      })
      const plain = yield* command(["list"], failing(error))
      expect([plain.code, plain.out]).toEqual([1, ""])
      expect(plain.err).toBe(
        "effect-idempotency: The store cannot be reached, or broke off: no way to redis://:***@localhost, with ***. Nothing was changed.\n"
      )
      const json = yield* command(["list", "--json"], failing(error))
      expect(documents(json.err)).toEqual([
        { error: "IdempotencyStorageError", message: fromLibrary(error).message.replaceAll("s3cret-word", "***") }
      ])
    })
  )

  it.effect("is a mistake in the words of the command", () =>
    Effect.gen(function* () {
      for (const [args, said] of [
        [["list"], "Say where the records are"],
        [["bogus"], "Invalid subcommand"],
        [["inspect", "payment.charge"], "Missing argument <key>"],
        [["list", "--bogus"], "unknown argument"],
        [["list", "redis://me:s3cret-word@localhost"], "redis://me:***@localhost"],
        [["list", "redis://:it's-s3cret-word@localhost"], "unknown argument"],
        [["list", "postgres://me:pa#s3cret-word?@localhost/db"], "unknown argument"],
        [["inspect", "a:b", "c", "--store", "redis://localhost"], "the operation holds a colon"],
        [["list", "--store", "s3cret-word"], "The URL of the store is none"],
        [["list", "--store", "mongodb://localhost"], "Such a store is not known"],
        [["list", "--store", "redis://localhost", "--table", "t"], "--table is for SQL databases"],
        [["list", "--store", "sqlite:x", "--cluster"], "--cluster and --redis-prefix are for Redis"]
      ] as const) {
        const plain = yield* command(args)
        expect([plain.code, plain.out], args.join(" ")).toEqual([2, ""])
        expect(plain.err).toContain(said)
        expect(plain.err).not.toContain("s3cret-word")
        const json = yield* command([...args, "--json"])
        expect(documents(json.err)).toMatchObject([
          { error: said.startsWith("the op") ? "IdempotencyValidationError" : "Usage" }
        ])
      }
    })
  )

  it("names the versions to install that the package asks for", () => {
    const { peerDependencies } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
    for (const [name, version] of Object.entries(peerVersions)) {
      expect([name, peerDependencies[name]]).toEqual([name, `^${version}.0`])
    }
  })

  it.effect("is a package that is not installed", () =>
    Effect.gen(function* () {
      const missing = "a-driver-that-nobody-has"
      const failure = yield* Effect.flip(load([missing], () => import(missing)))
      expect([failure.code, failure.exitCode]).toEqual(["MissingPackage", 1])
      expect(failure.message).toContain(`npm install ${missing}`)
      const broken = yield* Effect.flip(load(["x"], () => Promise.reject(new Error("no bindings"))))
      expect(broken.message).toBe("x cannot be loaded: no bindings.")
    })
  )

  it.effect("is a defect, in one line of JSON", () =>
    Effect.gen(function* () {
      const { code, err } = yield* command(["list", "--json"], {
        env: { IDEMPOTENCY_STORE: "redis://localhost" },
        open: () => Effect.die(new Error("not foreseen"))
      })
      expect([code, documents(err)[0]?.["error"]]).toEqual([1, "Defect"])
    })
  )

  it.effect("is warned of on standard error", () =>
    Effect.gen(function* () {
      const open: Surroundings["open"] = () =>
        Effect.zipRight(
          Effect.logWarning("It may lose records.", new Error("evicting s3cret-word")),
          Effect.scoped(memory)
        )
      const surroundings = { open, env: { IDEMPOTENCY_STORE: "redis://:s3cret-word@localhost" } }
      const plain = yield* command(["list"], surroundings)
      expect(plain).toEqual({ code: 0, out: "No keys.\n", err: "warning: It may lose records. evicting ***\n" })
      const json = yield* command(["list", "--json"], surroundings)
      expect(documents(json.err)).toEqual([{ warning: "It may lose records. evicting ***" }])
    })
  )
})
