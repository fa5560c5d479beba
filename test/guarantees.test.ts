/**
 * What the guides promise is shown by tests that are there: a link from a guide into the tests has the name of a test, or
 * of a group of tests, for its text.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import ts from "typescript"
import { IdempotencyError } from "../src/IdempotencyError.js"

const root = fileURLToPath(new URL("..", import.meta.url))
const text = (path: string): string => readFileSync(join(root, path), "utf8")

/** A name as it is written, with `…` for what is only known at run time. */
const nameOf = (name: ts.Expression): string | undefined => {
  if (ts.isStringLiteralLike(name)) return name.text
  if (!ts.isTemplateExpression(name)) return undefined
  return [name.head, ...name.templateSpans.map(({ literal }) => literal)].map(({ text }) => text).join("…")
}

const declares = /^(it|test|describe|suite|layer|withLayer|repositoryContract)\b/

/** The names of all tests of a file, each after those of the groups that it is in. */
const testsIn = (path: string): ReadonlyArray<ReadonlyArray<string>> => {
  const found: Array<ReadonlyArray<string>> = []
  const visit = (node: ts.Node, groups: ReadonlyArray<string>): void => {
    let inner = groups
    const add = (name: string | undefined) => {
      if (name === undefined) return
      inner = [...groups, name]
      found.push(inner)
    }
    if (ts.isCallExpression(node) && declares.test(node.expression.getText())) {
      const name = node.arguments.find((argument) => nameOf(argument) !== undefined)
      if (name !== undefined) add(nameOf(name))
    }
    // The cases of the contract suite: `group("claim")({ "an absent key …": … })`.
    if (ts.isCallExpression(node) && ts.isIdentifier(node.expression) && node.expression.text === "group") {
      const [name] = node.arguments
      const cases = ts.isCallExpression(node.parent) ? node.parent.arguments[0] : undefined
      if (name !== undefined && cases !== undefined && ts.isObjectLiteralExpression(cases)) {
        add(nameOf(name))
        for (const { name: title } of cases.properties) {
          if (title !== undefined && ts.isStringLiteral(title)) found.push([...inner, nameOf(title) ?? ""])
        }
      }
    }
    ts.forEachChild(node, (child) => visit(child, inner))
  }
  visit(ts.createSourceFile(path, text(path), ts.ScriptTarget.Latest, true), [])
  return found
}

interface TestLink {
  readonly name: string
  readonly path: string
}

const isTestFile = (path: string) => path.startsWith("test/") || path.startsWith("src/internal/testing/")

const testLinksIn = (markdown: string): ReadonlyArray<TestLink> =>
  [...markdown.matchAll(/\[([^\]]+)\]\(([^)\s#]+\.ts)\)/g)]
    .map(([, name = "", target = ""]) => ({ name: name.replace(/\s+/g, " "), path: join("docs", target) }))
    .filter(({ path }) => isTestFile(path))

const known = new Map<string, ReadonlyArray<ReadonlyArray<string>>>()
const isThere = ({ name, path }: TestLink): boolean => {
  const tests = known.get(path) ?? testsIn(path)
  known.set(path, tests)
  const parts = name.split(" › ")
  return tests.some((names) => names.slice(-parts.length).join(" › ") === parts.join(" › "))
}

const guides = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"))
const guarantees = text("docs/guarantees.md")

/** The cells of the rows of the table under a heading. */
const rowsUnder = (heading: string, markdown: string): ReadonlyArray<ReadonlyArray<string>> => {
  const section = markdown.split(/^## /m).find((one) => one.startsWith(`${heading}\n`)) ?? ""
  return [...section.matchAll(/^\|(.*)\|$/gm)]
    .map(([, row = ""]) => row.split(/(?<!\\)\|/).map((cell) => cell.trim()))
    .slice(2)
}

describe("the tests that the guides name", () => {
  for (const guide of guides) {
    it(`are there: ${guide}`, () => {
      expect(testLinksIn(text(`docs/${guide}`)).filter((link) => !isThere(link))).toEqual([])
    })
  }

  it("are told from what is no test", () => {
    const path = "test/engine/failures.test.ts"
    expect(isThere({ path, name: "crash after complete" })).toBe(true)
    expect(isThere({ path, name: "crash after complete › …: the next caller gets a replay" })).toBe(true)
    expect(isThere({ path, name: "…: the next caller gets a replay" })).toBe(true)
    expect(isThere({ path, name: "crash after completion" })).toBe(false)
    expect(isThere({ path, name: "store down › …: the next caller gets a replay" })).toBe(false)
  })
})

describe("docs/guarantees.md", () => {
  const promises = rowsUnder("Promises", guarantees)
  const failures = rowsUnder("What each failure leads to", guarantees)

  it("names a test for each promise, and for each failure", () => {
    expect(promises.length).toBeGreaterThanOrEqual(20)
    for (const row of [...promises, ...failures]) {
      expect(testLinksIn(row.at(-1) ?? ""), row[0]).not.toEqual([])
    }
  })

  it("promises what the README does", () => {
    const told = rowsUnder("What is promised", text("README.md"))
    expect(told.length).toBeGreaterThanOrEqual(12)
    expect(failures.map((row) => row.slice(0, 3))).toEqual(told)
  })
})

describe("docs/errors.md", () => {
  const errors = text("docs/errors.md")

  it("has a row for each error of the library, and for no other", () => {
    const rows = [...errors.matchAll(/^\| `(\w+Error)` \|/gm)].map(([, tag = ""]) => tag)
    const tags = IdempotencyError.members.map((error) => error._tag)
    expect([...rows].sort()).toEqual([...tags, "MessagePoisonedError"].sort())
  })

  it("has each problem of the HTTP module as it is answered", async () => {
    const rows = rowsUnder("Problems over HTTP", errors)
    const source = text("src/internal/http/problem.ts")
    const codes = new Set([...source.matchAll(/"(idempotency_\w+)"/g)].map(([, code]) => code))
    expect(new Set(rows.map(([, code = ""]) => code.replaceAll("`", "")))).toEqual(codes)
    for (const [status, cell = "", retryable] of rows) {
      const code = cell.replaceAll("`", "")
      const definition = new RegExp(`^  ${code}: \\{\\n    status: (\\d+),[^}]*retryable: (true|false)`, "m").exec(
        source
      )
      expect([status, retryable], code).toEqual([definition?.[1], definition?.[2] === "true" ? "yes" : "no"])
    }
  })
})
