import { wrongWithCall } from "./callInvariants.js"
import { wrongWithKey } from "./keyInvariants.js"
import type { Played } from "./played.js"

/** Everything that is wrong with a run, however bad its weather was; nothing, if the library keeps its promises. */
export const violations = (played: Played): ReadonlyArray<string> => [
  ...played.problems,
  ...Array.from(new Set(played.changes.map(({ key }) => key))).flatMap((key) => wrongWithKey(played, key)),
  ...played.calls.flatMap((call) => wrongWithCall(played, call))
]
