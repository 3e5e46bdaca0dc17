export * from "./fake-iommu.js";
export * from "./fake-pci.js";
