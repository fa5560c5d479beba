/**
 * Tests that wait for nothing come one after the other without a turn of the event loop: the runner hears nothing of
 * them, nor they of the runner, which counts as a failure after a minute.
 */
import { afterEach } from "vitest"

const { setImmediate } = globalThis

afterEach(() => new Promise<void>((resolve) => setImmediate(() => resolve())))
