/** Steps that set a container up and use its device: configuration space, BARs, reset, interrupts. */
import { EventFd, O, OpenFile } from "@iommukit/core";
import { DeviceFlags, GroupFlags, PciIrq, PciRegion, RegionFlags, VfioExtension } from "@iommukit/vfio-type1";
import type { CaseArguments, CaseProgram, StepHandler } from "./case-program.js";

/** As many vectors as the test takes. */
const VECTORS = 16;
const COMMAND = 4;
const BUS_MASTER = 4;
/** edu's. */
const VENDOR = 0x1234;

export const DEVICE_STEPS: readonly StepHandler[] = [
  { pattern: /^CFG_/, run: configSpace },
  { pattern: /^for BAR/, run: bars },
  { pattern: /^DEVICE_RESET$/, run: reset },
  { pattern: /^SET_IRQS$/, run: setIrqs },
  { pattern: /read eventfd$/, run: readEvents },
  { pattern: /^(open|GET_API|GET_INFO|readlink|GROUP_|CHECK_|DEVICE_GET)/, run: setup },
  { pattern: /^SET_IOMMU$/, run: setIommu },
];

async function configSpace(program: CaseProgram, args: CaseArguments, expect: unknown, op: string): Promise<void> {
  const device = await program.keptDevice();
  const at = args.off as number;
  const [low, high] = await device.read(PciRegion.CONFIG, at, 2);
  const value = low | (high << 8);
  if (op === "CFG_WRITE") {
    const next = (value | Number(args.set ?? 0)) & ~Number(args.clear ?? 0);
    await program.call(op, expect, () => device.write(PciRegion.CONFIG, at, Uint8Array.of(next & 0xff, next >> 8)));
  } else if (at === COMMAND) {
    const master = (value & BUS_MASTER) !== 0;
    if (master !== (expect === "BusMaster=1")) program.note(op, `command 0x${value.toString(16)}`, expect);
  } else if (value !== VENDOR) program.note(op, `vendor 0x${value.toString(16)}`, expect);
}

async function bars(program: CaseProgram): Promise<void> {
  const device = await program.device();
  const { task } = program;
  for (let bar = 0; bar < PciRegion.ROM; bar++) {
    const { flags, size, offset } = await device.regionInfo(bar);
    if ((flags & RegionFlags.MMAP) === 0) continue;
    if (size === 0n || (size & (size - 1n)) !== 0n) program.note(`BAR ${bar}`, `size ${size}`);
    const mapping = task.fds.get(device.fd).ops.mmap?.(task, Number(offset), Number(size), true, true);
    if (!mapping) program.note(`BAR ${bar}`, "cannot be mapped");
    mapping?.close();
  }
  if (((await device.regionInfo(PciRegion.CONFIG)).flags & RegionFlags.MMAP) !== 0)
    program.note("configuration space", "can be mapped");
  await device.close();
}

async function reset(program: CaseProgram, _args: CaseArguments, expect: unknown): Promise<void> {
  const device = await program.device();
  if (((await device.info()).flags & DeviceFlags.RESET) !== 0)
    await program.call("RESET", expect, () => device.reset());
  else program.note("RESET", "the device cannot be reset");
}

async function setIrqs(program: CaseProgram, args: CaseArguments, expect: unknown): Promise<void> {
  const device = await program.keptDevice();
  const { events, machine, task } = program;
  const index = program.id.includes("msix") ? PciIrq.MSIX : PciIrq.MSI;
  if (args.data === "EVENTFD") {
    const count = Math.min((await device.irqInfo(index)).count, VECTORS);
    for (let i = 0; i < count; i++) events.push(new EventFd(machine.platform.scheduler, 0, true));
    const fds = events.map((event) => task.fds.install(new OpenFile(event, O.RDWR)));
    await program.call("SET_IRQS", expect, () => device.setIrqs(index, fds));
  } else if (args.start === "i") {
    for (const i of events.keys()) await program.call("SET_IRQS", expect, () => device.triggerIrq(index, i));
  } else await program.call("SET_IRQS", expect, () => device.disableIrqs(index));
}

async function readEvents(program: CaseProgram, _args: CaseArguments, expect: unknown): Promise<void> {
  if (program.events.length === 0) program.note("read eventfd", "no interrupt was enabled", expect);
  for (const event of program.events) {
    const bytes = new Uint8Array(8);
    const done = await program.call("read eventfd", expect, () => event.read(program.task, bytes));
    if (done !== undefined && bytes[0] !== 1) program.note("read eventfd", `${bytes[0]}`, expect);
  }
}

/** Indices of regions or interrupts: a number, or several names: "MSI, MSIX". */
function indices(value: unknown, names: Readonly<Record<string, number>>): number[] {
  return String(value)
    .split(/[, ]+/)
    .map((name) => names[name] ?? Number(name.replace(/^BAR/, "")));
}

async function setup(program: CaseProgram, args: CaseArguments, expect: unknown, op: string): Promise<void> {
  const { container, group } = program;
  const checks: Readonly<Record<string, () => Promise<boolean>>> = {
    GET_API_VERSION: async () => (await container.apiVersion()) === 0,
    GET_INFO: async () => (await container.info()).pgsizes !== 0n,
    GROUP_GET_STATUS: async () => ((await group.status()) & GroupFlags.VIABLE) !== 0,
    CHECK_EXTENSION: async () => (await container.checkExtension(Number(args.type))) > 0 === (expect !== 0),
    GROUP_GET_DEVICE_FD: async () => {
      const { name = "bdf" } = args as { readonly name?: string };
      const device = name === "bdf" ? program.keptDevice() : group.device(name);
      return (await device).fd >= 0;
    },
    DEVICE_GET_INFO: async () => (await (await program.keptDevice()).info()).numRegions === PciRegion.COUNT,
    DEVICE_GET_REGION_INFO: async () => {
      const device = await program.keptDevice();
      let mmap = 0;
      for (const index of indices(args.index ?? "CONFIG", PciRegion))
        mmap |= (await device.regionInfo(index)).flags & RegionFlags.MMAP;
      return expect !== "no MMAP flag" || mmap === 0;
    },
    DEVICE_GET_IRQ_INFO: async () => {
      const device = await program.keptDevice();
      let vectors = 0;
      for (const index of indices(args.index ?? "MSI", PciIrq)) vectors += (await device.irqInfo(index)).count;
      return vectors > 0;
    },
  };
  // Opening and attaching came first: without them there would be no program.
  const check = checks[op];
  if (check && (await program.call(op, expect, check)) === false) program.note(op, "not as expected", expect);
}

/** The other cases begin with the IOMMU set. */
async function setIommu(program: CaseProgram, args: CaseArguments, expect: unknown): Promise<void> {
  if (!program.id.includes("wrong_type")) return;
  const wrong = String(args.type).startsWith("NOIOMMU");
  await program.call("SET_IOMMU", expect, () =>
    program.container.setIommu(wrong ? VfioExtension.NOIOMMU_IOMMU : program.type),
  );
}
