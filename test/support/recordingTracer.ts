/** A tracer that remembers its spans, and what tests ask of them. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as HashSet from "effect/HashSet"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

const hex = (count: number, digits: number): string => (count + 1).toString(16).padStart(digits, "0")

export class RecordedSpan implements Tracer.Span {
  readonly _tag = "Span"
  readonly spanId: string
  readonly traceId: string
  readonly attributes = new Map<string, unknown>()
  readonly links: Array<Tracer.SpanLink>
  readonly events: Array<readonly [name: string, attributes: unknown]> = []
  status: Tracer.SpanStatus
  /** How often it was ended. */
  ends = 0

  constructor(
    count: number,
    readonly name: string,
    readonly parent: Option.Option<Tracer.AnySpan>,
    readonly context: Context.Context<never>,
    links: ReadonlyArray<Tracer.SpanLink>,
    startTime: bigint,
    readonly kind: Tracer.SpanKind,
    readonly sampled: boolean
  ) {
    this.spanId = hex(count, 16)
    this.traceId = Option.match(parent, { onNone: () => hex(count, 32), onSome: ({ traceId }) => traceId })
    this.links = [...links]
    this.status = { _tag: "Started", startTime }
  }

  end(endTime: bigint, exit: Exit.Exit<unknown, unknown>): void {
    this.ends++
    this.status = { _tag: "Ended", startTime: this.status.startTime, endTime, exit }
  }

  attribute(key: string, value: unknown): void {
    this.attributes.set(key, value)
  }

  event(name: string, _: bigint, attributes?: Record<string, unknown>): void {
    this.events.push([name, attributes])
  }

  addLinks(links: ReadonlyArray<Tracer.SpanLink>): void {
    this.links.push(...links)
  }

  /** `ok`, what it failed with, or that it was interrupted. */
  get ending(): string {
    if (this.status._tag === "Started") return "not ended"
    const { exit } = this.status
    if (Exit.isSuccess(exit)) return "ok"
    return Cause.isInterruptedOnly(exit.cause) ? "interrupted" : String(Cause.squash(exit.cause))
  }

  /** All that an exporter could send. */
  get told(): unknown {
    return {
      name: this.name,
      attributes: [...this.attributes],
      links: this.links.map(({ attributes, span }) => [span.traceId, span.spanId, attributes]),
      events: this.events,
      exit: this.status._tag === "Ended" ? this.status.exit : undefined
    }
  }
}

export interface Recording {
  readonly spans: ReadonlyArray<RecordedSpan>
  /** Level, annotations and message of each log. */
  readonly logs: ReadonlyArray<string>
  readonly named: (name: string) => ReadonlyArray<RecordedSpan>
  /** Each span on a line, beneath its parent: its name, its outcome and attempt, and its end unless it is well. */
  readonly tree: () => ReadonlyArray<string>
}

const line = (span: RecordedSpan): string => {
  const { attributes } = span
  const parts = [span.name.replace("idempotency.", ""), attributes.get("idempotency.outcome")]
  const attempt = attributes.get("idempotency.attempt")
  if (attempt !== undefined) parts.push(`#${String(attempt)}`)
  if (span.ending !== "ok") parts.push(`(${span.ending})`)
  return parts.filter((part) => part !== undefined).join(" ")
}

/** Runs an effect under a tracer and a logger that remember everything. */
export const recorded = <A, E, R>(
  effect: (recording: Recording) => Effect.Effect<A, E, R>,
  { sampled = true }: { readonly sampled?: boolean } = {}
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const spans: Array<RecordedSpan> = []
    const logs: Array<string> = []
    const tracer = Tracer.make({
      span: (name, parent, context, links, startTime, kind) => {
        const span = new RecordedSpan(spans.length, name, parent, context, links, startTime, kind, sampled)
        spans.push(span)
        return span
      },
      context: (run) => run()
    })
    const logger = Logger.make(({ annotations, cause, logLevel, message }) => {
      logs.push(
        `${logLevel.label} ${JSON.stringify([...annotations])} ${JSON.stringify(message)} ${Cause.pretty(cause)}`
      )
    })
    const children = (parent: RecordedSpan | undefined, indent: string): ReadonlyArray<string> =>
      spans
        .filter((span) => Option.getOrUndefined(span.parent) === parent)
        .flatMap((span) => [indent + line(span), ...children(span, `${indent}  `)])
    const recording: Recording = {
      spans,
      logs,
      named: (name) => spans.filter((span) => span.name === name),
      tree: () => children(undefined, "")
    }
    return effect(recording).pipe(
      Effect.withTracer(tracer),
      Effect.locally(FiberRef.currentLoggers, HashSet.make(logger)),
      Effect.locally(FiberRef.currentMinimumLogLevel, LogLevel.All)
    )
  })
