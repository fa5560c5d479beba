/** What becomes of the key when the response is not a success. */
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type Case, expectProblem, expectReplay, freshKey, numbered, problems, settled, start } from "./fixture.js"
import type { Mount } from "./support.js"

export const policyCases = (test: Case, mount: Mount): void => {
  for (const status of [400, 404, 409, 500, 503]) {
    test(`a ${status} is not recorded: the next request is handled`, () =>
      Effect.gen(function* () {
        const site = yield* start(mount, (run) => (run === 1 ? { status, body: "no" } : numbered()(run)))
        const key = freshKey()
        expect((yield* site.send({ key })).status).toBe(status)
        const second = yield* site.send({ key })
        expect(second.status).toBe(201)
        expectReplay(yield* site.send({ key }), second)
        expect(site.runs()).toBe(2)
        yield* settled
      }))
  }

  test("under at-most-once, a 5xx is held and a 4xx is not", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, (run) => ({ status: run === 1 ? 422 : 502 }), { guarantee: "at-most-once" })
      const key = freshKey()
      expect((yield* site.send({ key })).status).toBe(422)
      expect((yield* site.send({ key })).status).toBe(502)
      expectProblem(yield* site.send({ key }), problems.unknown)
      expect(site.runs()).toBe(2)
    }))

  test("a defect answers with 500, and releases", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, (run) => (run === 1 ? Effect.dieMessage("broken") : numbered()(run)), {
        onResponse: () => "replay"
      })
      const key = freshKey()
      expect((yield* site.send({ key })).status).toBe(500)
      expect((yield* site.send({ key })).status).toBe(201)
      expect(site.runs()).toBe(2)
      yield* settled
    }))

  test("under at-most-once, a defect holds", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, () => Effect.dieMessage("broken"), { guarantee: "at-most-once" })
      const key = freshKey()
      expect((yield* site.send({ key })).status).toBe(500)
      expectProblem(yield* site.send({ key }), problems.unknown)
      expect(site.runs()).toBe(1)
      yield* settled
    }))

  test("the server decides by the response", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, (run) => ({ status: [201, 402, 202][run - 1] ?? 200, body: `${run}` }), {
        onResponse: ({ status }) => (status === 201 ? "release" : status === 402 ? "replay" : "hold")
      })
      const key = freshKey()
      expect((yield* site.send({ key })).status).toBe(201)
      const declined = yield* site.send({ key })
      expect(declined.status).toBe(402)
      expectReplay(yield* site.send({ key }), declined)
      const other = freshKey()
      expect((yield* site.send({ key: other })).status).toBe(202)
      expectProblem(yield* site.send({ key: other }), problems.unknown)
      expect(site.runs()).toBe(3)
    }))

  test("a decision that dies answers with 500, and releases", () =>
    Effect.gen(function* () {
      const site = yield* start(mount, numbered(), {
        onResponse: () => {
          throw new Error("no decision")
        }
      })
      const key = freshKey()
      expect((yield* site.send({ key })).status).toBe(500)
      expect((yield* site.send({ key })).status).toBe(500)
      expect(site.runs()).toBe(2)
      yield* settled
    }))
}
