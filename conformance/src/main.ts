import { conformance } from "./conformance.js";
import { suites } from "./suites.js";
import { runTool } from "./usage-error.js";

await runTool((args) => conformance(args, suites));
