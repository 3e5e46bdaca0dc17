export * from "./fake-iommu.js";
export * from "./fake-pci.js";
export * from "./leaks.js";
export * from "./walk.js";
