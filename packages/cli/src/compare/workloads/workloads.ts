import { CHASE } from "./chase.js";
import { COPY, HUGE_PAGES } from "./copy.js";
import { FAULT_STORM } from "./fault-storm.js";
import { MANY_PASIDS } from "./many-pasids.js";
import type { NamedWorkload } from "./named-workload.js";
import { RANDOM } from "./random.js";
import { RING } from "./ring.js";

export const WORKLOADS: readonly NamedWorkload[] = [COPY, CHASE, RANDOM, HUGE_PAGES, FAULT_STORM, MANY_PASIDS, RING];
