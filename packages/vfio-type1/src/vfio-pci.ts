/** The name of the driver that gives a device to programs. */
export const VFIO_PCI = "vfio-pci";
