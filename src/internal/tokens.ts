/** Unique tokens: 128 random bits made once, then a count. */
export interface Tokens {
  readonly next: () => string
}

export const makeTokens = (): Tokens => {
  const origin = Buffer.from(globalThis.crypto.getRandomValues(new Uint8Array(16))).toString("base64url")
  let count = 0
  return { next: () => `${origin}.${(count++).toString(36)}` }
}
