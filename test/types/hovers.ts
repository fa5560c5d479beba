/** What an editor shows of names in a program: a hover tells what an effect gives, fails with and needs. */
import * as path from "node:path"
import ts from "typescript"

/** A module of one name for each piece of code. */
export const moduleOf = (preamble: string, code: { readonly [name: string]: string }): string =>
  Object.entries(code).reduce((text, [name, value]) => `${text}export const ${name} = ${value}\n`, preamble)

/** The quick info of every exported name of `file`, as the language service of the compiler's API gives it. */
export const hoversOf = (file: string): { readonly [name: string]: string } => {
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    types: []
  }
  const service = ts.createLanguageService({
    getCompilationSettings: () => options,
    getCurrentDirectory: () => path.dirname(file),
    getDefaultLibFileName: ts.getDefaultLibFilePath,
    getScriptFileNames: () => [file],
    getScriptVersion: () => "0",
    getScriptSnapshot: (name) => {
      const text = ts.sys.readFile(name)
      return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text)
    },
    fileExists: ts.sys.fileExists,
    readFile: ts.sys.readFile,
    readDirectory: ts.sys.readDirectory,
    directoryExists: ts.sys.directoryExists,
    getDirectories: ts.sys.getDirectories,
    ...(ts.sys.realpath === undefined ? {} : { realpath: ts.sys.realpath })
  })
  const hovers: Record<string, string> = {}
  const source = service.getProgram()?.getSourceFile(file)
  source?.forEachChild((statement) => {
    if (!ts.isVariableStatement(statement)) return
    for (const { name } of statement.declarationList.declarations) {
      const info = service.getQuickInfoAtPosition(file, name.getStart(source))
      hovers[name.getText(source)] = ts.displayPartsToString(info?.displayParts)
    }
  })
  service.dispose()
  return hovers
}
