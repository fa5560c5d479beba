/** Data directories of database servers, initialised once per machine and unpacked from an archive from then on. */
import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import { renameSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { directoryFor, type User } from "./servers.js"

export interface DataDirectory {
  readonly name: string
  /** The server, whose version the data is for. */
  readonly server: string
  /** Initialises a directory that does not exist yet. */
  readonly initializer: string
  readonly args: (directory: string) => ReadonlyArray<string>
  readonly user: User | undefined
}

const run = (file: string, args: ReadonlyArray<string>, user: User | undefined): Effect.Effect<string, unknown> =>
  Effect.tryPromise({
    try: async () => (await promisify(execFile)(file, args, { ...user, cwd: tmpdir() })).stdout,
    catch: (error) => error
  })

const ownerOf = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.uid

/** Files that make one side by side replace one another's archive as a whole. */
const pack = ({ args, initializer, name, user }: DataDirectory, archive: string): Effect.Effect<void, unknown> =>
  Effect.scoped(
    Effect.gen(function* () {
      const directory = yield* directoryFor(`${name}-template`, user)
      const data = join(directory, "data")
      const packed = join(directory, "data.tar")
      yield* run(initializer, args(data), user)
      yield* run("tar", ["-cf", packed, "-C", data, "."], user)
      yield* Effect.sync(() => renameSync(packed, archive))
    })
  )

/** The path of a new data directory, inside a directory of the server's user that is removed with the scope. */
export const dataDirectory = (
  options: DataDirectory
): Effect.Effect<{ readonly directory: string; readonly data: string }, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const { args, name, server, user } = options
    const version = yield* run(server, ["--version"], user)
    const owner = user?.uid ?? process.getuid?.()
    const key = createHash("sha256")
      .update(JSON.stringify([server, version, args(""), owner]))
      .digest("hex")
    const archive = join(tmpdir(), `idempotency-${name}-${key.slice(0, 16)}.tar`)
    if (ownerOf(archive) !== owner) yield* pack(options, archive)
    const directory = yield* directoryFor(name, user)
    const data = join(directory, "data")
    yield* run("mkdir", ["-m", "700", data], user)
    yield* run("tar", ["-xf", archive, "-C", data], user)
    return { directory, data }
  })
