import { conformance } from "./conformance.js";
import { suites } from "./suites.js";
import { runTool } from "./tool.js";

await runTool((args) => conformance(args, suites));
