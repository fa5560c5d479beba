/** Which of several identical requests of one run this one is. */

/** The number of one request within its run. */
export interface Occurrence {
  /** Takes the number, the same as last time unless another request has it by now. */
  readonly begin: () => number
  /**
   * Says how it went. After a final answer the number is spent; else it is free again, for this request or for the
   * caller's next try of it: a number whose outcome is open must not be left behind.
   */
  readonly end: (isFinal: boolean) => void
}

interface Numbers {
  readonly inUse: Set<number>
  /** No number below is free. */
  lowest: number
}

/**
 * The numbers in use, by run and name. The entries belong to the runs, which alone keep them: clients that are made
 * within a run, one per call, have to count together.
 */
const runs = new WeakMap<object, Map<string, Numbers>>()

const numbersOf = (run: object, name: string): Numbers => {
  const names = runs.get(run) ?? new Map<string, Numbers>()
  runs.set(run, names)
  const numbers = names.get(name) ?? { inUse: new Set(), lowest: 0 }
  names.set(name, numbers)
  return numbers
}

const lowestFree = (numbers: Numbers): number => {
  while (numbers.inUse.has(numbers.lowest)) numbers.lowest++
  return numbers.lowest
}

export const makeOccurrence = (run: object, name: string): Occurrence => {
  const numbers = numbersOf(run, name)
  const { inUse } = numbers
  let number: number | undefined
  let users = 0
  let isSpent = false
  return {
    begin: () => {
      if (number === undefined || (users === 0 && !isSpent && inUse.has(number))) number = lowestFree(numbers)
      inUse.add(number)
      users++
      return number
    },
    end: (isFinal) => {
      users--
      isSpent = isSpent || isFinal
      if (users > 0 || isSpent || number === undefined) return
      inUse.delete(number)
      numbers.lowest = Math.min(numbers.lowest, number)
    }
  }
}
