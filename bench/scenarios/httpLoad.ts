/** A process that sends requests with fresh keys over kept connections, so that the server has its own to itself. */
import { Agent, request } from "node:http"
import { promises } from "../drive.js"
import { answer } from "../processes.js"

export interface LoadTask {
  readonly port: number
  readonly prefix: string
  readonly count: number
  readonly concurrency: number
  /** What every response has to be. */
  readonly expected: string
}

export interface LoadReply {
  readonly millis: number
  readonly latencies: ReadonlyArray<number>
}

const agents = new Map<number, Agent>()
const agentOf = (port: number): Agent => {
  const agent = agents.get(port) ?? new Agent({ keepAlive: true })
  agents.set(port, agent)
  return agent
}

const content = JSON.stringify({ amount: 12_500, currency: "EUR" })

const send = ({ expected, port }: LoadTask, key: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const headers = {
      "content-type": "application/json",
      "content-length": String(content.length),
      "idempotency-key": `"${key}"`
    }
    const sent = request({ host: "127.0.0.1", port, method: "POST", path: "/charges", headers, agent: agentOf(port) })
    sent.once("error", reject)
    sent.once("response", (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk: string) => {
        text += chunk
      })
      response.once("error", reject)
      response.once("end", () =>
        response.statusCode === 200 && text === expected
          ? resolve()
          : reject(new Error(`a response differs: ${response.statusCode} ${text.slice(0, 200)}`))
      )
    })
    sent.end(content)
  })

answer<LoadTask, LoadReply>(async (task) => {
  const keyOf = (index: number) => `${task.prefix}-${index}`
  const { latencies, millis } = await promises((key) => send(task, key))({ ...task, keyOf, timeEvery: 1 })
  return { latencies, millis }
})
