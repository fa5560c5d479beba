import { claimCases, fingerprintCases } from "./claimCases.js"
import type { ContractCase } from "./contractCase.js"
import { holdCases, releaseCases, stepCases } from "./endingCases.js"
import { identityCases } from "./identityCases.js"
import { listCases } from "./listCases.js"
import { changesCases, inspectCases, resetCases, resolveCases } from "./operatorCases.js"
import { completeCases, renewCases } from "./ownerCases.js"
import { manyCases, recordCases } from "./recordCases.js"
import { retentionCases } from "./retentionCases.js"

/** Every case of the contract suite but the model test. */
export const repositoryContractCases: ReadonlyArray<ContractCase> = [
  ...claimCases,
  ...fingerprintCases,
  ...renewCases,
  ...completeCases,
  ...releaseCases,
  ...holdCases,
  ...stepCases,
  ...resolveCases,
  ...resetCases,
  ...inspectCases,
  ...changesCases,
  ...recordCases,
  ...manyCases,
  ...identityCases,
  ...retentionCases,
  ...listCases
]
