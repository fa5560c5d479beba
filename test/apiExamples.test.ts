/**
 * Whatever the package exports has a type that is written down, and a doc comment that says since when there is it and
 * what kind of thing it is; every function has an example, which `documentation.test.ts` compiles.
 */
import { readFileSync } from "node:fs"
import { join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import { describe, expect, it } from "vitest"

const root = fileURLToPath(new URL("..", import.meta.url))
const read = (name: string) => JSON.parse(readFileSync(join(root, name), "utf8"))

/** The modules behind `exports`. */
const modules: ReadonlyArray<string> = Object.values<string | { readonly types: string }>(read("package.json").exports)
  .flatMap((target) => (typeof target === "string" ? [] : [target.types]))
  .map((types) => types.replace(/^\.\/dist\/(.*)\.d\.ts$/, "src/$1.ts"))

const { options } = ts.parseJsonConfigFileContent(
  ts.readConfigFile(join(root, "src/tsconfig.json"), ts.sys.readFile).config,
  ts.sys,
  join(root, "src")
)
const program = ts.createProgram(
  modules.map((file) => join(root, file)),
  options
)
const checker = program.getTypeChecker()

const isOurs = (declaration: ts.Declaration): boolean =>
  declaration.getSourceFile().fileName.startsWith(join(root, "src/"))

/** What a doc comment is attached to. */
const documented = (declaration: ts.Declaration): ts.Node =>
  ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration

const isFunction = (symbol: ts.Symbol, at: ts.Node): boolean =>
  (symbol.flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Accessor)) === 0 &&
  (symbol.flags & ts.SymbolFlags.Value) !== 0 &&
  checker.getTypeOfSymbolAtLocation(symbol, at).getCallSignatures().length > 0

const hasTypedParameters = ({ parameters }: ts.SignatureDeclaration): boolean =>
  parameters.every(({ type }) => type !== undefined)

/** Whether the declaration says its type, so that no change of an implementation changes it unseen. */
const saysItsType = (declaration: ts.Declaration): boolean => {
  if (ts.isVariableDeclaration(declaration) || ts.isPropertyDeclaration(declaration)) {
    const { initializer, type } = declaration
    return (
      type !== undefined ||
      (initializer !== undefined &&
        ((ts.isArrowFunction(initializer) && initializer.type !== undefined && hasTypedParameters(initializer)) ||
          // Its type argument says it all.
          (ts.isCallExpression(initializer) && initializer.typeArguments?.length === 1)))
    )
  }
  if (ts.isFunctionDeclaration(declaration) || ts.isMethodDeclaration(declaration)) {
    return declaration.type !== undefined && hasTypedParameters(declaration)
  }
  return !ts.isGetAccessorDeclaration(declaration) || declaration.type !== undefined
}

/** The example of a declaration, or that of what it is a member of, if it shows this member. */
const hasExample = (name: string, declaration: ts.Declaration, owner: ts.Symbol): boolean => {
  const examplesOf = (one: ts.Declaration) =>
    ts.getJSDocTags(documented(one)).flatMap(({ comment, tagName }) => {
      const example = tagName.text === "example" ? (ts.getTextOfJSDocComment(comment) ?? "") : ""
      return example.includes("```ts\n") ? [example] : []
    })
  return (
    examplesOf(declaration).length > 0 ||
    declarationsOf(owner).some((one) => examplesOf(one).some((example) => example.includes(`${name}(`)))
  )
}

/** What is amiss with a declaration of this name. */
const faultsOf = (
  name: string,
  symbol: ts.Symbol,
  declaration: ts.Declaration,
  owner: ts.Symbol
): ReadonlyArray<string> => {
  const node = documented(declaration)
  const tags = ts.getJSDocTags(node).map(({ tagName }) => tagName.text)
  const comments = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc)
  const isNamespace = ts.isModuleDeclaration(declaration)
  const needsExample = isFunction(symbol, declaration) && !ts.isInterfaceDeclaration(declaration)
  const faults = [
    comments.length > 0 ? [] : ["no doc comment"],
    isNamespace || comments.some(({ comment }) => comment !== undefined) ? [] : ["nothing said"],
    tags.includes("since") ? [] : ["no @since"],
    isNamespace || tags.includes("category") ? [] : ["no @category"],
    saysItsType(declaration) ? [] : ["no type"],
    !needsExample || hasExample(name, declaration, owner) ? [] : ["no example"]
  ].flat()
  const { fileName } = declaration.getSourceFile()
  return faults.map((fault) => `${relative(root, fileName)}: ${name}: ${fault}`)
}

/** The implementation of overloads is not declared to anybody. */
const isImplementation = (declaration: ts.Declaration, symbol: ts.Symbol): boolean =>
  ts.isFunctionDeclaration(declaration) && declaration.body !== undefined && (symbol.declarations?.length ?? 0) > 1

const declarationsOf = (symbol: ts.Symbol): ReadonlyArray<ts.Declaration> =>
  (symbol.declarations ?? []).filter((declaration) => isOurs(declaration) && !isImplementation(declaration, symbol))

/** What can be reached through a value by a name: statics of a class, members of an object. */
const membersOf = (symbol: ts.Symbol): ReadonlyArray<ts.Symbol> => {
  const [declaration] = symbol.declarations ?? []
  if (declaration === undefined || (symbol.flags & ts.SymbolFlags.Value) === 0) return []
  const type = checker.getTypeOfSymbolAtLocation(symbol, declaration)
  return type.getProperties().filter(({ flags }) => (flags & ts.SymbolFlags.Prototype) === 0)
}

const typesIn = (symbol: ts.Symbol): ReadonlyArray<ts.Symbol> =>
  (symbol.flags & ts.SymbolFlags.Namespace) === 0 ? [] : checker.getExportsOfModule(symbol)

const exportsOf = (file: string): ReadonlyArray<ts.Symbol> => {
  const source = program.getSourceFile(join(root, file))
  const symbol = source === undefined ? undefined : checker.getSymbolAtLocation(source)
  return (symbol === undefined ? [] : checker.getExportsOfModule(symbol)).map((exported) =>
    (exported.flags & ts.SymbolFlags.Alias) === 0 ? exported : checker.getAliasedSymbol(exported)
  )
}

describe("the public API", () => {
  it.each(modules)("%s is documented, with an example for each function", (file) => {
    const symbols = exportsOf(file)
    expect(symbols.length).toBeGreaterThan(0)
    const faults = symbols.flatMap((symbol) =>
      [symbol, ...new Set([...membersOf(symbol), ...typesIn(symbol)])].flatMap((one) => {
        const name = one === symbol ? symbol.name : `${symbol.name}.${one.name}`
        return declarationsOf(one).flatMap((declaration) => faultsOf(name, one, declaration, symbol))
      })
    )
    expect(faults).toEqual([])
  })

  it("is all in the reference", () => {
    expect([...read("typedoc.json").entryPoints].sort()).toEqual([...modules].sort())
  })
})
