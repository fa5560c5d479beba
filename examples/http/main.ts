/**
 * Runs the server, and clients whose replies get lost. With `--serve`, the server alone, on `PORT` or 3000, until it is
 * stopped.
 */
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { type Row, scenario } from "./client.js"
import { lossyProxy } from "./lossyProxy.js"
import { serverLayer, storeName } from "./server.js"

const print = (title: string, rows: ReadonlyArray<Row>) => {
  const header: Row = { what: "request", answer: "answer", sent: "sent", charges: "charges" }
  const columns = ["what", "answer", "sent", "charges"] as const
  const width = (column: keyof Row) => Math.max(...[header, ...rows].map((row) => row[column].length))
  const line = (row: Row) => columns.map((column) => row[column].padEnd(width(column))).join("  │  ")
  const rule = line(header).replace(/[^│]/g, "─").replace(/│/g, "┼")
  console.log([`\n${title}\n`, line(header), rule, ...rows.map(line), ""].join("\n"))
}

const example = Effect.gen(function* () {
  const { address } = yield* HttpServer.HttpServer
  const proxy = yield* lossyProxy(address._tag === "TcpAddress" ? address.port : 0)
  print(`Charging 100 over a network that loses replies; records in ${storeName}.`, yield* scenario(proxy))
}).pipe(Effect.scoped, Effect.provide(serverLayer(0)), Logger.withMinimumLogLevel(LogLevel.Warning))

const server = HttpServer.logAddress.pipe(
  Effect.zipRight(Effect.never),
  Effect.provide(serverLayer(Number(process.env["PORT"] ?? 3000)))
)

NodeRuntime.runMain(process.argv.includes("--serve") ? server : example)
