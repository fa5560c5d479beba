/** Whether the long form of the tests was asked for: `npm run test:proof`. */
export const isProof = process.env["PROOF"] === "1"
