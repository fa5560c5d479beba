/** `layer` of `@effect/vitest` puts its own methods into the shared `it`; where files share modules, each begins anew. */
import { effect, flakyTest, it, layer, live, prop, scoped, scopedLive } from "@effect/vitest"

Object.assign(it, { effect, flakyTest, layer, live, prop, scoped, scopedLive })
