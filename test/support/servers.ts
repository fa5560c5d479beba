/** What the servers of tests have in common: their binaries, free ports, directories, processes and end. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import {
  accessSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync
} from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"

export const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Also where systems keep servers, which is not on the `PATH` of every user. */
export const onPath = (name: string): string | undefined =>
  [...(process.env["PATH"] ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin"]
    .map((directory) => join(directory, name))
    .find(isExecutable)

const isRoot = (): boolean => process.getuid?.() === 0

const runApt = (...args: ReadonlyArray<string>): void => {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" }
  execFileSync("apt-get", args, { stdio: ["ignore", "ignore", "pipe"], env })
}

/**
 * What `find` finds; if that is nothing, on Debian and Ubuntu as root, what it finds after the package was installed.
 */
export const installOnce = <A>(packageName: string, find: () => A | undefined): A | undefined => {
  const found = find()
  if (found !== undefined || !isRoot() || onPath("apt-get") === undefined || !existsSync("/etc/debian_version"))
    return found
  console.warn(`No ${packageName} on this system: installing it once with apt-get.`)
  // Test files run side by side, and apt lets one process in at a time: the others wait for it.
  for (let [waits, failures] = [0, 0]; waits < 300 && failures < 3 && find() === undefined; ) {
    try {
      runApt("update")
      runApt("install", "-y", "--no-install-recommends", packageName)
      break
    } catch (error) {
      if (String(error).includes("lock")) waits++
      else failures++
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
    }
  }
  return find()
}

/** A user of this system, for servers that refuse to run as root. */
export interface User {
  readonly uid: number
  readonly gid: number
}

const userId = (option: "-u" | "-g", name: string): number =>
  Number(execFileSync("id", [option, name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }))

/** The first of these users that exists, if the tests run as root; `undefined` is the user who runs them. */
export const unprivilegedUser = (...names: ReadonlyArray<string>): User | undefined => {
  if (!isRoot()) return undefined
  for (const name of names) {
    try {
      return { uid: userId("-u", name), gid: userId("-g", name) }
    } catch {}
  }
  throw new Error(`None of these users exists: ${names.join(", ")}`)
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
  })

const handedOut = new Set<number>()

/**
 * A port that is free, and free at each of the offsets from it. It is below the ports that a system hands to clients, so
 * that none takes it before the server does, or meets itself.
 */
export const freePort = async (...offsets: ReadonlyArray<number>): Promise<number> => {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 12_000)
    if (handedOut.has(port)) continue
    handedOut.add(port)
    const free = await Promise.all([0, ...offsets].map((offset) => isFree(port + offset)))
    if (free.every((is) => is)) return port
  }
}

/** A directory that belongs to the server's user, removed with the scope. */
export const directoryFor = (name: string, user?: User | undefined): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const path = mkdtempSync(join(tmpdir(), `idempotency-${name}-`))
      if (user !== undefined) chownSync(path, user.uid, user.gid)
      return path
    }),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }))
  )

const running = new Set<ChildProcess>()
const endAll = (): void => {
  for (const child of running) signalAll(child, "SIGKILL")
}
// The channel to the test runner closes when the runner itself was killed; the tests would go on without it.
process.once("exit", endAll).once("disconnect", endAll)

export const hasEnded = (child: ChildProcess): boolean =>
  child.pid === undefined || child.exitCode !== null || child.signalCode !== null

const childrenOf = (pid: number): ReadonlyArray<number> => {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number)
  } catch {
    return execFileSync("ps", ["-A", "-o", "ppid=,pid="], { encoding: "utf8" })
      .split("\n")
      .map((line) => line.trim().split(/\s+/).map(Number))
      .flatMap(([parent, child]) => (parent === pid && child !== undefined ? [child] : []))
  }
}

/** The signals that no process hears itself; what a server left to its children would go on without it. */
const unheard: ReadonlySet<NodeJS.Signals> = new Set(["SIGSTOP", "SIGCONT", "SIGKILL"])

const signalAll = (child: ChildProcess, signal: NodeJS.Signals): void => {
  if (child.pid === undefined || hasEnded(child)) return
  if (unheard.has(signal)) {
    // A server that is stopped starts no further children meanwhile, and mourns none.
    child.kill("SIGSTOP")
    for (const pid of childrenOf(child.pid)) {
      try {
        process.kill(pid, signal)
      } catch {}
    }
  }
  child.kill(signal)
}

const patience = 8000

/** A stopped process would not hear anything gentler than `SIGKILL`: it goes on first, if it may end by itself. */
const stop = (child: ChildProcess, by: NodeJS.Signals): Effect.Effect<void> =>
  Effect.async((resume) => {
    if (hasEnded(child)) return resume(Effect.void)
    const lastResort = setTimeout(() => signalAll(child, "SIGKILL"), patience)
    child.once("exit", () => {
      clearTimeout(lastResort)
      resume(Effect.void)
    })
    if (by !== "SIGKILL") signalAll(child, "SIGCONT")
    signalAll(child, by)
  })

export interface ServerCommand {
  readonly name: string
  readonly binary: string
  readonly args: ReadonlyArray<string>
  /** Where the process runs and its output is kept. */
  readonly directory: string
  readonly user?: User | undefined
  /** Ends the server with the scope: `SIGKILL` unless its children or the system would keep something of it. */
  readonly endsBy?: NodeJS.Signals | undefined
  /** Fails until the server takes requests. */
  readonly answers: Effect.Effect<unknown, unknown>
}

export interface ServerProcess {
  /** Of the process that runs now: a restart makes another. */
  readonly pid: number
  /**
   * Sends a signal to the server: `SIGSTOP` and `SIGCONT` for a pause, `SIGKILL` for a crash. These three reach the
   * processes that the server started as well.
   */
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /**
   * Kills the server, if it still runs, and starts it again in the same directory and on the same port. What the server
   * did not keep is lost.
   */
  readonly restart: Effect.Effect<void, unknown>
}

const dyingWithParent = ["setpriv", "--pdeathsig", "KILL"] as const

let prefix: ReadonlyArray<string> | undefined
/** On Linux a server dies with the process that started it, however that ends. */
const commandPrefix = (): ReadonlyArray<string> => {
  if (prefix === undefined) {
    const [setpriv, ...options] = dyingWithParent
    try {
      execFileSync(setpriv, [...options, "true"], { stdio: "ignore" })
      prefix = dyingWithParent
    } catch {
      prefix = []
    }
  }
  return prefix
}

const logOf = (directory: string): string => join(directory, "server.log")

const launch = ({ args, binary, directory, user }: ServerCommand): ChildProcess => {
  const [file = binary, ...rest] = [...commandPrefix(), binary, ...args]
  const log = openSync(logOf(directory), "a")
  try {
    const child = spawn(file, rest, { ...user, cwd: directory, stdio: ["ignore", log, log] })
    child.on("error", () => {})
    child.once("exit", () => running.delete(child))
    running.add(child)
    return child
  } finally {
    closeSync(log)
  }
}

/** A server process, which answers when this succeeds and is gone when the scope is closed. */
export const runServer = (command: ServerCommand): Effect.Effect<ServerProcess, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    let child: ChildProcess | undefined
    const start = Effect.sync(() => {
      child = launch(command)
    })
    const end = (by: NodeJS.Signals) => Effect.suspend(() => (child === undefined ? Effect.void : stop(child, by)))
    yield* Effect.acquireRelease(start, () => end(command.endsBy ?? "SIGKILL"))
    const isOver = () => child === undefined || hasEnded(child)
    const failure = (what: string) =>
      new Error(`the ${command.name} server ${what}: ${readFileSync(logOf(command.directory), "utf8").slice(-2000)}`)
    const answersOrEnds = Effect.suspend(() => (isOver() ? Effect.void : command.answers)).pipe(
      Effect.retry(Schedule.intersect(Schedule.spaced("25 millis"), Schedule.recurUpTo("30 seconds"))),
      Effect.mapError((cause) => new Error(failure("does not answer").message, { cause }))
    )
    const up = Effect.filterOrFail(
      answersOrEnds,
      () => !isOver(),
      () => failure("ended at once")
    )
    // A test's clock stands still.
    const onWallClock = Effect.withClock(Clock.make())
    yield* onWallClock(up)
    return {
      get pid() {
        if (child?.pid === undefined) throw failure("has no process")
        return child.pid
      },
      signal: (signal) =>
        Effect.sync(() => {
          if (child !== undefined) signalAll(child, signal)
        }),
      restart: Effect.andThen(
        end("SIGKILL"),
        // A server does not start while the last children of the killed one still hold its memory.
        Effect.retry(Effect.andThen(start, up), {
          while: isOver,
          schedule: Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(20))
        })
      ).pipe(onWallClock)
    }
  })
