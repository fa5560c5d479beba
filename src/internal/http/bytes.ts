/** A copy: Node.js cuts small buffers out of a larger one, whose other bytes are nobody's business. */
export const concatBytes = (chunks: ReadonlyArray<Uint8Array>, length: number): Uint8Array => {
  const bytes = new Uint8Array(length)
  let offset = 0
  for (const chunk of chunks) {
    bytes.set(chunk, offset)
    offset += chunk.length
  }
  return bytes
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The text whose UTF-8 the bytes are, exactly; `undefined` if there is none. */
export const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}
