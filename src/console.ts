/**
 * A console for operators, to mount behind your own authentication.
 *
 * @since 0.1.0
 */

export * from "./console/IdempotencyConsole.js"
