/** The published figures that a model can check, by name. */
import { fastAndSafe } from "./fast-and-safe.js";
import type { Calibration } from "./finding.js";
import { hypersio } from "./hypersio.js";
import { iovaStress } from "./iova-stress.js";
import { qualcomm } from "./qualcomm.js";
import { strictLazy } from "./strict-lazy.js";

export const CALIBRATIONS: readonly Calibration[] = [fastAndSafe, hypersio, qualcomm, iovaStress, strictLazy];
