/** The operation table of the protocol, as rows to be checked. */
import { expect, it } from "@effect/vitest"
import type * as Protocol from "../../src/internal/protocol.js"
import * as transition from "../../src/internal/transition.js"
import { claimRequest, completed, completeRequest, now, outcome } from "./states.js"

export type State = Protocol.State | undefined
export type Row = readonly [
  on: string,
  state: State,
  apply: (state: State) => transition.Transition<unknown>,
  reply: unknown,
  /** What the next state holds, or that it is the same. */
  next: object | "unchanged" | "absent"
]

export const claim =
  (request: Partial<Protocol.ClaimRequest> = {}) =>
  (state: State) =>
    transition.claim(state, { ...claimRequest, ...request }, now)
export const renew = (token: string) => (state: State) => transition.renew(state, { token, lease: 3_000 }, now)
export const complete =
  (request: Partial<Protocol.CompleteRequest> = {}) =>
  (state: State) =>
    transition.complete(state, { ...completeRequest, ...request }, now)
export const release = (token: string) => (state: State) => transition.release(state, { token }, now)
export const hold = (token: string) => (state: State) => transition.hold(state, { token }, now)
export const saveStep =
  (token: string, name = "two") =>
  (state: State) =>
    transition.saveStep(state, { token, name, encoded: "2" }, now)
export const resolve = (state: State) => transition.resolve(state, { token: "o", outcome }, now)
export const reset = (force: boolean) => (state: State) => transition.reset(state, { force }, now)

export const expired = { ...completed, expiresAt: now }
export const done = (attempt: number) => ({ _tag: "Done", attempt, createdAt: now, expiresAt: now + 8_000 })
export const mismatch = { _tag: "Mismatch" }
export const superseded = { _tag: "Superseded", record: undefined }
export const notHeld = { _tag: "NotHeld" }

export const checkRows = (rows: ReadonlyArray<Row>) => {
  for (const [on, state, apply, reply, next] of rows) {
    it(on, () => {
      const after = apply(state)
      expect(after.reply).toMatchObject(Object(reply))
      if (next === "unchanged") expect(after.state).toBe(state)
      else if (next === "absent") expect(after.state).toBeUndefined()
      else expect(after.state).toMatchObject(next)
    })
  }
}
