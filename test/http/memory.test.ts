import { describe, layer } from "@effect/vitest"
import { layerMemory } from "../../src/layerMemory.js"
import { apiMounts } from "./apiMounts.js"
import { policyCases } from "./policyCases.js"
import { refusalCases } from "./refusalCases.js"
import { replayCases } from "./replayCases.js"
import { mounts } from "./support.js"

for (const mount of [...mounts, ...apiMounts]) {
  describe(`${mount.name}, memory`, () => {
    layer(layerMemory, { excludeTestServices: true })((it) => {
      replayCases(it.scoped, mount)
      refusalCases(it.scoped, mount)
      policyCases(it.scoped, mount)
    })
  })
}
