/** What programs find of devices and groups under /sys and /dev/vfio, laid out as files and links. */
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import type { Device, IommuGroup, PciBar, PciFunction, Platform, ReservedRegion } from "@iommukit/core";

const PCI_DEVICES = "/sys/bus/pci/devices";
const PCI_DRIVERS = "/sys/bus/pci/drivers";
const GROUPS = "/sys/kernel/iommu_groups";
/** IORESOURCE_IO, _MEM, _PREFETCH, _MEM_64 (include/linux/ioport.h). */
const RESOURCE = { io: 0x100, mem32: 0x200, mem64: 0x10_0200, prefetch: 0x2000 } as const;
/** Six BARs, the ROM, and as many windows of a bridge's. */
const RESOURCES = 13;
const BAR0 = 0x10;
const ROM = 0x30;

/**
 * @param root an empty directory, which becomes "/"
 * @param bystanders functions to show beside the platform's devices
 */
export function layOutTree(platform: Platform, root: string, bystanders: readonly Device[] = []): void {
  const tree = new Tree(root);
  for (const directory of [PCI_DEVICES, PCI_DRIVERS, GROUPS, "/dev/vfio", "/sys/class/iommu"])
    tree.directory(directory);
  for (const device of [...platform.devices.values(), ...bystanders]) layOutDevice(tree, device);
  for (const group of new Set([...platform.devices.values()].flatMap(({ group: own }) => own ?? [])))
    layOutGroup(tree, group);
  for (const path of platform.kernel.nodes.keys()) tree.node(path);
}

class Tree {
  constructor(private readonly root: string) {}

  directory(path: string): void {
    mkdirSync(join(this.root, path), { recursive: true });
  }

  file(path: string, content: string | Uint8Array): void {
    this.directory(dirname(path));
    writeFileSync(join(this.root, path), content);
  }

  /** A program may open it; who it runs as does not matter. */
  node(path: string): void {
    this.file(path, "");
    chmodSync(join(this.root, path), 0o666);
  }

  link(path: string, target: string): void {
    this.directory(dirname(path));
    symlinkSync(relative(dirname(path), target), join(this.root, path));
  }
}

function layOutDevice(tree: Tree, { name, pci, driver, group }: Device): void {
  const home = `/sys/devices/pci${name.slice(0, 7)}/${name}`;
  const word = (offset: number, width: 1 | 2 | 4) => hex(pci.readConfig(offset, width), 2 * width);
  const id = (offset: number) => pci.readConfig(offset, 2).toString(16).padStart(4, "0").toUpperCase();
  const text = {
    vendor: word(0, 2),
    device: word(2, 2),
    subsystem_vendor: word(0x2c, 2),
    subsystem_device: word(0x2e, 2),
    class: hex(pci.readConfig(8, 4) >>> 8, 6),
    revision: word(8, 1),
    irq: String(pci.readConfig(0x3c, 1)),
    numa_node: "-1",
    local_cpulist: "0",
    enable: "1",
    driver_override: "(null)",
    resource: resources(pci).join("\n"),
    uevent: [...(driver ? [`DRIVER=${driver}`] : []), `PCI_ID=${id(0)}:${id(2)}`, `PCI_SLOT_NAME=${name}`].join("\n"),
  };
  for (const [file, content] of Object.entries(text)) tree.file(`${home}/${file}`, `${content}\n`);
  tree.file(`${home}/config`, configuration(pci));
  tree.link(`${home}/subsystem`, "/sys/bus/pci");
  tree.link(`${PCI_DEVICES}/${name}`, home);
  if (driver) {
    tree.link(`${home}/driver`, `${PCI_DRIVERS}/${driver}`);
    tree.link(`${PCI_DRIVERS}/${driver}/${name}`, home);
  }
  if (!group) return;
  tree.link(`${home}/iommu_group`, `${GROUPS}/${group.id}`);
  tree.link(`${GROUPS}/${group.id}/devices/${name}`, home);
}

function layOutGroup(tree: Tree, group: IommuGroup): void {
  const home = `${GROUPS}/${group.id}`;
  tree.file(
    `${home}/reserved_regions`,
    reservedRegions(group)
      .map((line) => `${line}\n`)
      .join(""),
  );
  tree.file(`${home}/type`, `${groupType(group) ?? "unknown"}\n`);
}

/** iommu_group_show_resv_regions: lowest first, each once. */
export function reservedRegions(group: IommuGroup): readonly string[] {
  const regions = group.devices.flatMap((device) => device.iommu?.ops.reservedRegions(device) ?? []);
  regions.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  return [...new Set(regions.map(regionLine))];
}

function regionLine({ start, length, type }: ReservedRegion): string {
  return `${hex(start, 16)} ${hex(start + length - 1n, 16)} ${type === "sw-msi" ? "msi" : type}`;
}

/** iommu_group_show_type: kernel domains in capitals, the others not. */
export function groupType({ defaultDomain }: IommuGroup): string | undefined {
  const type = defaultDomain?.type;
  return type?.startsWith("dma") ? type.toUpperCase() : type;
}

function configuration(pci: PciFunction): Uint8Array {
  return Uint8Array.from({ length: pci.configSize }, (_, offset) => pci.readConfig(offset, 1));
}

/** The lines of `resource`: first and last address, flags. */
function resources(pci: PciFunction): string[] {
  return Array.from({ length: RESOURCES }, (_, index) => {
    const bar = pci.bars.find((candidate) => candidate.index === index);
    const [start, end, flags] = bar ? placeOf(pci, bar) : [0n, 0n, 0n];
    return [start, end, flags].map((value) => hex(value, 16)).join(" ");
  });
}

function placeOf(pci: PciFunction, { index, kind, size, prefetchable }: PciBar): [bigint, bigint, bigint] {
  const offset = index === 6 ? ROM : BAR0 + 4 * index;
  const high = kind === "mem64" ? BigInt(pci.readConfig(offset + 4, 4)) << 32n : 0n;
  const value = high | BigInt(pci.readConfig(offset, 4));
  const start = value - (value % BigInt(size));
  const flags = RESOURCE[kind] | (prefetchable ? RESOURCE.prefetch : 0);
  return [start, start + BigInt(size) - 1n, BigInt(flags)];
}

function hex(value: number | bigint, digits: number): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}
