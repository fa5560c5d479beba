import { createHash } from "node:crypto"
import * as lua from "./lua.js"
import * as luaInsertion from "./luaInsertion.js"
import * as luaList from "./luaList.js"

/** A text that the server can evaluate, with the digest by which it remembers it. */
interface Text {
  readonly lua: string
  readonly sha: string
}

/** Many keys and their arguments in one call; the reply is an array with one member per key. */
export interface Script {
  /**
   * Under a header that tells the server what the script may do, so that it decides before the script runs: refused
   * where a claim must not be lost, allowed where memory is out but a completion takes no more than its claim.
   */
  readonly flagged: Text
  /** For servers that do not know headers (before Redis 7). */
  readonly plain: Text
  readonly writes: boolean
}

const text = (lua: string): Text => ({ lua, sha: createHash("sha1").update(lua).digest("hex") })

const script = (flags: "" | "allow-oom" | "no-writes", body: string): Script => ({
  flagged: text(flags === "" ? `#!lua\n${body}` : `#!lua flags=${flags}\n${body}`),
  plain: text(body),
  writes: flags !== "no-writes"
})

export const claim = script("", lua.claim)
export const saveStep = script("", lua.saveStep)
export const insert = script("", luaInsertion.insert)
export const insertTogether = script("", luaInsertion.insertTogether)
export const renew = script("allow-oom", lua.renew)
export const complete = script("allow-oom", lua.complete)
export const release = script("allow-oom", lua.release)
export const hold = script("allow-oom", lua.hold)
export const resolve = script("allow-oom", lua.resolve)
export const reset = script("allow-oom", lua.reset)
export const remove = script("allow-oom", lua.remove)
export const read = script("no-writes", lua.read)
export const list = script("no-writes", luaList.list)
export const probe = script("allow-oom", lua.probe)
