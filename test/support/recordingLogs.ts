/** What is told to the log. */
import * as Arr from "effect/Array"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"

export interface Log {
  readonly level: string
  readonly message: string
  readonly annotations: { readonly [name: string]: unknown }
}

/** `logs` are those of effects with the layer, of every level. */
export const recordingLogs = () => {
  const logs: Array<Log> = []
  const logger = Logger.make(({ annotations, logLevel, message }) => {
    logs.push({
      level: logLevel.label,
      message: String(Arr.ensure(message)[0]),
      annotations: Object.fromEntries(annotations)
    })
  })
  const layer = Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.All))
  return { layer, logs }
}
