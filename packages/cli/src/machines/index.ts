export * from "./configurations.js";
export * from "./load-machine.js";
export * from "./transcript-header.js";
export * from "./transcript-platform.js";
