/** What the process that looks for leaks is told, and what it tells. */
export interface LeakTask {
  readonly url: string
  readonly calls: number
}

export interface Leftovers {
  readonly isDone: boolean
  readonly underWay: {
    readonly owners: number
    readonly flights: number
    readonly leases: number
    readonly background: number
  }
  /** In bytes, after garbage was collected. */
  readonly heapGrowth: number
  /** Timers, sockets and requests of Node.js. */
  readonly resources: { readonly before: ReadonlyArray<string>; readonly after: ReadonlyArray<string> }
}
