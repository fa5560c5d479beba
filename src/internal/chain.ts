/**
 * A set of what comes and goes with every call, in the order in which it came. The tables of a `Set` are made anew all
 * the time for members that go as fast as they come: with a single caller over memory, a fifth of a replay.
 */

/** What can be in a chain: in one at a time. */
export interface Link<Self> {
  isIn: boolean
  previous: Self | undefined
  next: Self | undefined
}

export class Chain<Member extends Link<Member>> {
  size = 0
  /** The one that came first. */
  first: Member | undefined
  private last: Member | undefined

  add(member: Member): void {
    member.isIn = true
    member.previous = this.last
    if (this.last === undefined) this.first = member
    else this.last.next = member
    this.last = member
    this.size++
  }

  /** Nothing, if it is not in. */
  delete(member: Member): void {
    if (!member.isIn) return
    const { next, previous } = member
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next === undefined) this.last = previous
    else next.previous = previous
    member.isIn = false
    member.previous = undefined
    member.next = undefined
    this.size--
  }

  /** As they are now: they may go meanwhile. */
  toArray(): Array<Member> {
    const members: Array<Member> = []
    for (let member = this.first; member !== undefined; member = member.next) members.push(member)
    return members
  }
}
