/** The parts of one machine, registered in one tsyringe child container under their tokens. */
import { type DependencyContainer, container as root } from "tsyringe";
import { ChipSocket, PLAIN_SOCKET } from "../bus/chip-socket.js";
import type { RequesterDirectory, RequesterPort } from "../bus/ports.js";
import { AddressDecoder, doorbell, SystemBus } from "../bus/system-bus.js";
import { Groups } from "../iommu/groups.js";
import { IommuError } from "../kernel/errno.js";
import { BoardInterrupts, DOORBELL_BASE, DOORBELL_SIZE, InterruptController } from "../kernel/interrupts.js";
import { Kernel } from "../kernel/kernel.js";
import { type HardwareUnit, Scheduler } from "../kernel/scheduler.js";
import { VirtualTimeScheduler } from "../kernel/virtual-time-scheduler.js";
import { hex } from "../memory/address.js";
import { FirstFitPages, PageAllocator, type PageAllocatorOptions } from "../memory/page-allocator.js";
import { type MemoryRegion, PhysicalMemory } from "../memory/physical-memory.js";
import { SlabMemory } from "../memory/slab-memory.js";
import { type AddressSpaceOptions, AddressSpaces } from "../mm/address-spaces.js";
import { MainlineSva } from "../sva/mainline-sva.js";
import { Sva } from "../sva/sva.js";
import { SvaCore } from "../sva/sva-core.js";
import { Tracer } from "../trace/tracer.js";
import { Variants, variants } from "./variants.js";

/** What `createPlatform` takes besides plugins. Every one has a default. */
export interface BoardOptions {
  /** RAM; 256 MiB from 4 GiB up when absent. Nothing is allocated until it is touched. */
  readonly ram?: readonly MemoryRegion[];
  readonly scheduler?: Scheduler;
  /** Replaces the RAM model: a versioned memory, a shared one. */
  readonly memory?: PhysicalMemory;
  readonly pages?: PageAllocatorOptions;
  /** For whoever looks at what chips and the rest of the machine say to each other. */
  readonly socket?: ChipSocket;
  /** iommu=pt: devices of kernel drivers are not translated. False when absent. */
  readonly passthrough?: boolean;
  /** Nanoseconds that an interrupt takes to its handler; none when absent. */
  readonly interruptLatency?: number;
  /** Processes: address bits, zero page, huge pages. */
  readonly mm?: AddressSpaceOptions;
  /** Which SVA core: the 2018 series' (the default), or mainline's behind the same interface. */
  readonly sva?: "seed" | "mainline";
  /** Known bugs to switch on, by name ("S-8"); none when absent. */
  readonly variants?: readonly string[];
}

/** 256 MiB from 4 GiB up. */
export const DEFAULT_RAM: readonly MemoryRegion[] = [{ base: 0x1_0000_0000, size: 0x1000_0000 }];

const CORES = { seed: SvaCore, mainline: MainlineSva } as const;

/** @throws IommuError EINVAL RAM, variants or SVA core that cannot be */
export function createBoard(options: BoardOptions): DependencyContainer {
  const board = root.createChildContainer();
  const scheduler = options.scheduler ?? new VirtualTimeScheduler();
  const trace = new Tracer(() => scheduler.now);
  const memory = options.memory ?? new SlabMemory(options.ram ?? DEFAULT_RAM);
  const pages = new FirstFitPages(memory, memory.regions, options.pages, trace);
  const bus = new AddressDecoder(memory);
  const interrupts = new BoardInterrupts(interruptDelay(scheduler, options.interruptLatency));
  const spaces = new AddressSpaces(memory, bus, pages, scheduler, trace, options.mm);
  const kernel = new Kernel(scheduler, trace, spaces);
  if (memory.regions.some(({ base, size }) => base < DOORBELL_BASE + DOORBELL_SIZE && DOORBELL_BASE < base + size))
    throw new IommuError("EINVAL", `RAM lies over the interrupt messages' doorbell at ${hex(DOORBELL_BASE)}`);
  bus.attach(doorbell("msi", DOORBELL_BASE, DOORBELL_SIZE, (address, data) => interrupts.deliver(address, data)));
  const enabled = variants(options.variants);
  const { sva = "seed" } = options;
  if (!Object.hasOwn(CORES, sva))
    throw new IommuError("EINVAL", `no SVA core "${sva}"; there are ${Object.keys(CORES).join(", ")}`);
  board.registerInstance(Variants, enabled);
  board.registerInstance<ChipSocket>(ChipSocket, options.socket ?? PLAIN_SOCKET);
  board.registerInstance(Scheduler, scheduler);
  board.registerInstance(Tracer, trace);
  board.registerInstance(PhysicalMemory, memory);
  board.registerInstance(PageAllocator, pages);
  board.registerInstance<SystemBus>(SystemBus, bus);
  board.registerInstance<InterruptController>(InterruptController, interrupts);
  board.registerInstance(AddressSpaces, spaces);
  board.registerInstance(Kernel, kernel);
  board.registerInstance<Sva>(Sva, new CORES[sva](scheduler, trace, kernel, enabled));
  board.registerInstance(Groups, new Groups(kernel, options.passthrough ? "identity" : "dma", enabled));
  return board;
}

/** How a signal reaches the processor. */
function interruptDelay(scheduler: Scheduler, latency = 0): (callback: () => void) => void {
  return (callback) => {
    if (scheduler.preemptive) scheduler.kick(interrupt(callback));
    else if (latency > 0) scheduler.timer(latency, callback);
    else callback();
  };
}

/** A signal on its way to the processor. */
function interrupt(callback: () => void): HardwareUnit {
  const step = () => {
    callback();
    return false;
  };
  return { name: "interrupt", step };
}

/** The functions of one segment by requester id: where an IOMMU's messages go. */
export class Requesters implements RequesterDirectory {
  readonly #ports = new Map<number, RequesterPort>();

  find(rid: number): RequesterPort | undefined {
    return this.#ports.get(rid);
  }

  /** @throws IommuError EEXIST */
  add(rid: number, port: RequesterPort): void {
    if (this.#ports.has(rid)) throw new IommuError("EEXIST", `two functions have requester id ${hex(rid)}`);
    this.#ports.set(rid, port);
  }

  remove(rid: number): void {
    this.#ports.delete(rid);
  }
}
