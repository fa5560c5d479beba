/** Stores that do not list as they should. */
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type { ListReply } from "../../src/internal/protocol.js"
import type { Fault } from "../support/mutantDriver.js"

/** Faults by what is wrong, with the group of cases that is there to find each, and how far the client's clock is ahead. */
export interface Faults {
  readonly [name: string]: readonly [group: string, fault: Fault, ahead?: number]
}

type ListPage = Extract<ListReply, { readonly _tag: "Page" }>

const onPage = (reply: ListReply, change: (page: ListPage) => ListPage): ListReply =>
  reply._tag === "Page" ? change(reply) : reply

const withEntries = (page: ListPage, keep: (identifiers: IdempotencyIdentifiers) => boolean): ListPage => ({
  ...page,
  entries: page.entries.filter(({ identifiers }) => keep(identifiers))
})

export const listFaults: Faults = {
  "a list without the keys that have a scope": [
    "list",
    {
      list: (sound, request) => onPage(sound(request), (page) => withEntries(page, ({ scope }) => scope === undefined))
    }
  ],
  "a list without its last page": [
    "list",
    {
      list: (sound, request) =>
        onPage(sound(request), (page) => {
          if (page.cursor === undefined) return page
          const next = sound({ ...request, cursor: page.cursor })
          return next._tag === "Page" && next.cursor === undefined ? { ...page, cursor: undefined } : page
        })
    }
  ],
  "a list by pages of its own length": ["list", { list: (sound, request) => sound({ ...request, limit: 1_000 }) }],
  "a list by any part of the key": [
    "list",
    {
      list: (sound, { keyPrefix, ...request }) =>
        onPage(sound({ ...request, keyPrefix: undefined }), (page) =>
          withEntries(page, ({ idempotencyKey }) => idempotencyKey.includes(keyPrefix ?? ""))
        )
    }
  ],
  "a list that starts again at a cursor it does not know": [
    "list",
    {
      list: (sound, request) => {
        const reply = sound(request)
        return reply._tag === "Page" ? reply : sound({ ...request, cursor: undefined })
      }
    }
  ],
  "a list of lapsed owners as unknown": [
    "list",
    {
      list: (sound, request) =>
        onPage(sound(request), (page) => ({
          ...page,
          entries: page.entries.filter(
            ({ state }) => state._tag !== "Processing" || request.state === undefined || page.now < state.leaseUntil
          )
        }))
    }
  ]
}
