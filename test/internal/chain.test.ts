import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Chain, type Link } from "../../src/internal/chain.js"

class Member implements Link<Member> {
  isIn = false
  previous: Member | undefined
  next: Member | undefined
  constructor(readonly name: number) {}
}

describe("a chain", () => {
  it("is a set in the order in which its members came", () => {
    const steps = fc.array(fc.tuple(fc.boolean(), fc.nat(5)))
    fc.assert(
      fc.property(steps, (steps) => {
        const members = Array.from({ length: 6 }, (_, name) => new Member(name))
        const chain = new Chain<Member>()
        const model = new Set<Member>()
        for (const [adds, name] of steps) {
          const member = members[name]
          if (member === undefined) continue
          if (!adds) {
            chain.delete(member)
            model.delete(member)
          } else if (!model.has(member)) {
            chain.add(member)
            model.add(member)
          }
          expect(chain.toArray()).toEqual([...model])
          expect(chain.size).toBe(model.size)
          expect(chain.first).toBe([...model][0])
          expect(members.filter(({ isIn }) => isIn)).toEqual(members.filter((one) => model.has(one)))
        }
      })
    )
  })

  it("lets go of what has left", () => {
    const [one, two, three] = [new Member(1), new Member(2), new Member(3)]
    const chain = new Chain<Member>()
    for (const member of [one, two, three]) chain.add(member)
    chain.delete(two)
    expect(two).toMatchObject({ previous: undefined, next: undefined, isIn: false })
    expect(one.next).toBe(three)
    expect(three.previous).toBe(one)
  })
})
