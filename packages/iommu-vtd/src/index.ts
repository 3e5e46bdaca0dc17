export * from "./spec/faults.js";
export * from "./spec/interrupt-remapping.js";
export * from "./spec/invalidation.js";
export * from "./spec/page-requests.js";
export * from "./spec/page-table.js";
export * from "./spec/pasid-table.js";
export * from "./spec/registers.js";
export * from "./spec/root-context.js";
