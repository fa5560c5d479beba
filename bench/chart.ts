/**
 * `npm run bench:chart`: draws `bench/results.svg` from `bench/results.json`.
 *
 * By ECharts: it draws SVG to a string without a browser or a canvas, and is one package with one dependency of its own.
 */
import { writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { chart, howToInstall, isInstalled, load } from "./peers/modules.js"
import { readResults } from "./results.js"

interface ECharts {
  readonly init: (
    element: null,
    theme: null,
    options: { readonly renderer: "svg"; readonly ssr: true; readonly width: number; readonly height: number }
  ) => {
    readonly setOption: (option: unknown) => void
    readonly renderToSVGString: () => string
    readonly dispose: () => void
  }
}

const fileOf = (name: string): string => fileURLToPath(new URL(name, import.meta.url))

const results = readResults()
const redis = results?.topics["redis"]
if (results === undefined || redis === undefined)
  throw new Error("there are no results yet: npm run bench -- --only redis")
if (!isInstalled(chart)) throw new Error(`the library that draws is not installed: ${howToInstall}`)
const { goals } = results
const { machine, rows } = redis

/** What others are compared in, too: the table has the rest. */
const drawn = [1, 100]
const ratios = rows.filter(
  ({ concurrency, contender, measure, scenario }) =>
    measure === "ratio" &&
    drawn.includes(concurrency) &&
    scenario.startsWith("redis/") &&
    !contender.endsWith("runPromise per call")
)
const categoryOf = ({ concurrency, scenario }: { readonly concurrency: number; readonly scenario: string }) =>
  `${scenario.slice("redis/".length)}, ${concurrency === 1 ? "1 caller" : `${concurrency} callers`}`
const categories = [...new Set(ratios.map(categoryOf))]
const contenders = [...new Set(ratios.filter(({ role }) => role !== "limit").map(({ contender }) => contender))]

const bars = contenders.map((name) => ({
  name,
  type: "bar",
  barGap: "10%",
  data: categories.map((category) => {
    const row = ratios.find((each) => each.contender === name && categoryOf(each) === category)
    return row === undefined ? "-" : Number(row.value.median.toFixed(3))
  })
}))

const goalMarks = {
  name: "goal",
  type: "scatter",
  symbol: "diamond",
  symbolSize: 11,
  itemStyle: { color: "#000" },
  data: categories.flatMap((category) => {
    const row = ratios.find((each) => categoryOf(each) === category)
    const goal = goals.find(
      ({ concurrency, measure, scenario }) =>
        measure === "ratio" && scenario === row?.scenario && (concurrency ?? row.concurrency) === row.concurrency
    )
    return goal?.atLeast === undefined ? [] : [[goal.atLeast, category]]
  })
}

const limitLine = {
  silent: true,
  symbol: "none",
  label: { formatter: "the limit" },
  lineStyle: { color: "#000", type: "dashed" },
  data: [{ xAxis: 1 }]
}

const { init }: ECharts = await load(chart)
const drawing = init(null, null, { renderer: "svg", ssr: true, width: 1000, height: 150 + categories.length * 80 })
drawing.setOption({
  animation: false,
  title: {
    text: "Operations per second over Redis, as a ratio to bare ioredis (log scale, more is better)",
    subtext: `medians of interleaved rounds; Node.js ${machine.node}, ${machine.cpu}, ${machine.date.slice(0, 10)}`
  },
  legend: { top: 62, itemGap: 10, textStyle: { fontSize: 11 } },
  grid: { top: 110, left: 220, right: 40, bottom: 30 },
  // Peers are up to a hundred times apart.
  xAxis: { type: "log", min: 0.01 },
  yAxis: { type: "category", data: categories, inverse: true, axisLabel: { width: 260, overflow: "break" } },
  series: [...bars.map((bar, index) => (index === 0 ? { ...bar, markLine: limitLine } : bar)), goalMarks]
})
writeFileSync(fileOf("./results.svg"), drawing.renderToSVGString())
drawing.dispose()
