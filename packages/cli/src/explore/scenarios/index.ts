/** Every scenario, by name. */
import type { ScenarioDefinition } from "../kit.js";
import { attachRefused } from "./attach-refused.js";
import { attachUnmap } from "./attach-unmap.js";
import { bindDma } from "./bind-dma.js";
import { bindExitUnbind } from "./bind-exit-unbind.js";
import { bindGroupOfTwo } from "./bind-group-of-two.js";
import { bindNoMemory } from "./bind-no-memory.js";
import { credits } from "./credits.js";
import { detachDma, detachLegacy } from "./detach-dma.js";
import { drainOther } from "./drain-other.js";
import { exitDetach } from "./exit-detach.js";
import { exitMainline } from "./exit-mainline.js";
import { exitUnstoppable } from "./exit-unstoppable.js";
import { exitWaiters } from "./exit-waiters.js";
import { faultDetach } from "./fault-detach.js";
import { faultExit } from "./fault-exit.js";
import { faultGroups } from "./fault-groups.js";
import { faultNoMemory } from "./fault-no-memory.js";
import { faultOverflow } from "./fault-overflow.js";
import { faultUnbind } from "./fault-unbind.js";
import { firstAccess } from "./first-access.js";
import { goneWhileBound } from "./gone-while-bound.js";
import { initTwice } from "./init-twice.js";
import { mediatedPair } from "./mediated-pair.js";
import { noStalls } from "./no-stalls.js";
import { passthroughDma } from "./passthrough-dma.js";
import { remapSva } from "./remap-sva.js";
import { removeUnmap } from "./remove-unmap.js";
import { replayRefused } from "./replay-refused.js";
import { resetUnmap } from "./reset-unmap.js";
import { stackFault } from "./stack-fault.js";
import { stallMixed } from "./stall-mixed.js";
import { unmapAts } from "./unmap-ats.js";
import { unmapLarge } from "./unmap-large.js";

export const SCENARIOS: readonly ScenarioDefinition[] = [
  attachRefused,
  attachUnmap,
  bindDma,
  bindExitUnbind,
  bindGroupOfTwo,
  bindNoMemory,
  credits,
  detachDma,
  detachLegacy,
  drainOther,
  exitDetach,
  exitMainline,
  exitWaiters,
  exitUnstoppable,
  faultDetach,
  faultExit,
  faultGroups,
  faultNoMemory,
  faultOverflow,
  faultUnbind,
  firstAccess,
  goneWhileBound,
  initTwice,
  mediatedPair,
  noStalls,
  passthroughDma,
  remapSva,
  removeUnmap,
  replayRefused,
  resetUnmap,
  stackFault,
  stallMixed,
  unmapAts,
  unmapLarge,
];
