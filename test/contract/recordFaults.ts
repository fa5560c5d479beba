/** Stores that do not save, find or delete records as they should. */
import type { InsertRequest } from "../../src/internal/protocol.js"
import * as transition from "../../src/internal/transition.js"
import type { Fault } from "../support/mutantDriver.js"
import type { Faults } from "./listFaults.js"

const saving = (saved: (request: InsertRequest) => InsertRequest): Fault => ({
  transitions: { insert: (stored, request, now) => transition.insert(stored, saved(request), now) }
})

/** Those of the second batch come first. */
const swapped: Fault = { batch: (replies) => [...replies.slice(128), ...replies.slice(0, 128)] }

export const recordFaults: Faults = {
  "a save that replaces": [
    "get, save and delete",
    { transitions: { insert: (_, request, now) => transition.insert(undefined, request, now) } }
  ],
  "a delete that takes claims with it": [
    "get, save and delete",
    { transitions: { remove: (stored) => ({ state: undefined, reply: stored !== undefined }) } }
  ],
  "a save that forgets the fingerprint": [
    "get, save and delete",
    saving((request) => ({ ...request, fingerprint: undefined }))
  ],
  "a save that forgets the attempt": ["get, save and delete", saving((request) => ({ ...request, attempt: 1 }))],
  "a save that takes every outcome for a success": [
    "get, save and delete",
    saving((request) => ({ ...request, outcome: { _tag: "Success", encoded: '"declined"' } }))
  ],
  "records together that are not saved": ["getMany, saveMany and deleteMany", { savesNoneTogether: true }],
  "records of several batches in another order": ["getMany, saveMany and deleteMany", swapped],
  "renewals of several batches in another order": ["renew", swapped]
}
