/** Whether the long form of the tests was asked for: `npm run test:proof`. */
export const isProof = process.env["PROOF"] === "1"

/** How many random runs the model test of a store makes whose clock is its own: each takes the time that it takes. */
export const liveModelRuns = isProof ? 30 : 10
