export * from "./live-frames.js";
export * from "./maps.js";
export * from "./process-files.js";
