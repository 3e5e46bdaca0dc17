/** Every scenario, by name. */
import type { ScenarioDefinition } from "../kit.js";
import { bindExitUnbind } from "./bind-exit-unbind.js";
import { exitDetach } from "./exit-detach.js";
import { faultExit } from "./fault-exit.js";
import { unmapDma } from "./unmap-dma.js";

export const SCENARIOS: readonly ScenarioDefinition[] = [bindExitUnbind, exitDetach, faultExit, unmapDma];
