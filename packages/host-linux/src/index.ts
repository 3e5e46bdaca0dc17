export * from "./live-frames.js";
export * from "./live-mm.js";
export * from "./live-processes.js";
export * from "./maps.js";
export * from "./process-files.js";
