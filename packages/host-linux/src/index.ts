export * from "./bridge/bridge.js";
export * from "./bridge/build-shim.js";
export * from "./bridge/tree.js";
export * from "./live-frames.js";
export * from "./live-mm.js";
export * from "./live-processes.js";
export * from "./maps.js";
export * from "./process-files.js";
