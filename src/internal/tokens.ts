/** Unique tokens: 128 random bits made once, then a count, and at the end what tells of a trace. */
export interface Tokens {
  readonly next: (trace?: string) => string
}

export const makeTokens = (): Tokens => {
  const origin = Buffer.from(globalThis.crypto.getRandomValues(new Uint8Array(16))).toString("base64url")
  let count = 0
  return { next: (trace = "") => `${origin}.${(count++).toString(36)}${trace}` }
}
