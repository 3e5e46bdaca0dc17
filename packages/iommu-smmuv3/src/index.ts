export * from "./spec/commands.js";
export * from "./spec/context-descriptor.js";
export * from "./spec/events.js";
export * from "./spec/page-requests.js";
export * from "./spec/page-table.js";
export * from "./spec/registers.js";
export * from "./spec/stream-table.js";
