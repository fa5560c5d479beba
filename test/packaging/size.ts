/** What the root of the package adds to a bundle: `npm run size`. Minified and compressed, `effect` apart. */
import { pathToFileURL } from "node:url"
import { gzipSync } from "node:zlib"
import { build } from "esbuild"
import { inRepository } from "./packed.js"

/** What a program exports of it. */
export const uses = {
  everything: `export * from "./index.js"`,
  "withIdempotency and layerMemory": `export { layerMemory, withIdempotency } from "./index.js"`
} as const

/** In bytes. */
export const sizeOf = async (use: keyof typeof uses): Promise<{ readonly minified: number; readonly gzip: number }> => {
  const { outputFiles } = await build({
    stdin: { contents: uses[use], resolveDir: inRepository("src"), loader: "ts" },
    bundle: true,
    external: ["effect"],
    format: "esm",
    minify: true,
    platform: "node",
    write: false
  })
  const text = Buffer.concat(outputFiles.map(({ contents }) => contents))
  return { minified: text.length, gzip: gzipSync(text, { level: 9 }).length }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  for (const use of ["everything", "withIdempotency and layerMemory"] as const) {
    const { gzip, minified } = await sizeOf(use)
    const kilobytes = (bytes: number) => `${(bytes / 1000).toFixed(1)} kB`
    console.log(`${use}: ${kilobytes(gzip)} compressed, ${kilobytes(minified)} minified`)
  }
}
