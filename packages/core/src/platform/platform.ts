/** One machine: IOMMUs, devices and services composed on a board. */
import type { DependencyContainer, InjectionToken } from "tsyringe";
import { ChipSocket } from "../bus/chip-socket.js";
import { NoIommu } from "../bus/no-iommu.js";
import { ChipPorts, TranslationPort } from "../bus/ports.js";
import { SystemBus } from "../bus/system-bus.js";
import { Device } from "../iommu/device.js";
import { Groups } from "../iommu/groups.js";
import { IommuError, isErrno } from "../kernel/errno.js";
import { InterruptController } from "../kernel/interrupts.js";
import { Kernel } from "../kernel/kernel.js";
import { Scheduler } from "../kernel/scheduler.js";
import { PageAllocator } from "../memory/page-allocator.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import type { PciFunction } from "../pci/pci-function.js";
import { Sva } from "../sva/sva.js";
import { Tracer } from "../trace/tracer.js";
import { type BoardOptions, createBoard, Requesters } from "./board.js";
import type { DevicePlugin } from "./device-plugin.js";
import type { IommuInstance, IommuPlugin } from "./iommu-plugin.js";
import type { ServicePlugin } from "./service-plugin.js";

/** What `createPlatform` composes a machine of. */
export interface PlatformOptions extends BoardOptions {
  /** The n-th translates for PCI segment n. Devices of other segments are behind none: they are in no group. */
  readonly iommus: readonly IommuPlugin[];
  readonly devices?: readonly DevicePlugin[];
  readonly services?: readonly ServicePlugin[];
}

interface Segment {
  readonly iommu: IommuInstance;
  readonly requesters: Requesters;
}

const NO_IOMMU = new NoIommu();

/** A machine; `createPlatform` makes one. Its world goes on only inside of `run`. */
export class Platform {
  readonly scheduler: Scheduler;
  readonly trace: Tracer;
  readonly memory: PhysicalMemory;
  readonly pages: PageAllocator;
  readonly bus: SystemBus;
  readonly kernel: Kernel;
  readonly sva: Sva;
  readonly groups: Groups;
  /** By bdf: "0000:01:00.0". */
  readonly devices = new Map<string, Device>();
  readonly #segments: Segment[] = [];
  readonly #services: ServicePlugin[] = [];

  constructor(readonly container: DependencyContainer) {
    this.scheduler = container.resolve(Scheduler);
    this.trace = container.resolve(Tracer);
    this.memory = container.resolve(PhysicalMemory);
    this.pages = container.resolve(PageAllocator);
    this.bus = container.resolve(SystemBus);
    this.kernel = container.resolve(Kernel);
    this.sva = container.resolve(Sva);
    this.groups = container.resolve(Groups);
  }

  get iommus(): readonly IommuInstance[] {
    return this.#segments.map(({ iommu }) => iommu);
  }

  resolve<T>(token: InjectionToken<T>): T {
    return this.container.resolve(token);
  }

  /** Runs `body` as a thread, and the machine with it until it ends. */
  run<T>(body: () => Promise<T>, name?: string): Promise<T> {
    return this.scheduler.run(body, name);
  }

  /** @throws IommuError ENODEV no device has that bdf */
  device(bdf: string): Device {
    const device = this.devices.get(bdf);
    if (!device)
      throw new IommuError("ENODEV", `no device ${bdf}; there are ${[...this.devices.keys()].join(", ") || "none"}`);
    return device;
  }

  /** Inside of the machine: adds an IOMMU. Before its segment's devices. */
  async addIommu(plugin: IommuPlugin): Promise<void> {
    const count = this.#segments.filter(({ iommu }) => iommu.name.split(".")[0] === plugin.name).length;
    const name = count === 0 ? plugin.name : `${plugin.name}.${count}`;
    const requesters = new Requesters();
    const wires = new Map<string, string>();
    const wireNamed = (line: string) => {
      const wire = wires.get(line) ?? `${name}.${line}`;
      wires.set(line, wire);
      return wire;
    };
    const scope = this.container.createChildContainer();
    const interrupts = this.container.resolve(InterruptController);
    const ports: ChipPorts = {
      memory: this.memory,
      message: (address, data) => interrupts.deliver(address, data),
      wire: (line, level) => interrupts.setWire(wireNamed(line), level),
      requesters,
      scheduler: this.scheduler,
      trace: this.trace,
    };
    scope.registerInstance(ChipPorts, this.container.resolve(ChipSocket).ports(ports));
    const iommu = plugin.create(scope, name);
    await iommu.start();
    this.#segments.push({ iommu, requesters });
  }

  /**
   * Inside of the machine: hot-plugs a device, behind the IOMMU of its segment if there is one. All of its functions, or none.
   * @throws IommuError EEXIST another device has the address; or as the IOMMU driver's probeDevice refuses
   */
  async plug(plugin: DevicePlugin): Promise<readonly Device[]> {
    const segment = this.#segments[plugin.segment];
    const scope = this.container.createChildContainer();
    scope.registerInstance<TranslationPort>(TranslationPort, segment?.iommu.chip ?? NO_IOMMU);
    const functions = plugin.create(scope);
    const added: Device[] = [];
    try {
      for (const pci of functions) added.push(await this.#probe(segment, pci));
    } catch (error) {
      for (const device of added.reverse()) await this.#release(device);
      for (const pci of functions) pci.remove?.();
      throw error;
    }
    for (const device of added) {
      for (const service of this.#services) await service.deviceAdded?.(this, device.name);
    }
    return added;
  }

  async #probe(segment: Segment | undefined, pci: PciFunction): Promise<Device> {
    if (this.devices.has(pci.bdf)) throw new IommuError("EEXIST", `there is a device ${pci.bdf} already`);
    const device = new Device(pci.bdf, pci.requesterId ?? pci.rid, pci);
    if (!segment) {
      this.devices.set(pci.bdf, device);
      return device;
    }
    const { iommu, requesters } = segment;
    device.iommu = iommu;
    requesters.add(pci.rid, pci.requester);
    this.devices.set(pci.bdf, device);
    let probed = false;
    try {
      await iommu.ops.probeDevice(device);
      probed = true;
      await this.groups.add(device);
    } catch (error) {
      if (probed) await iommu.ops.releaseDevice(device);
      requesters.remove(pci.rid);
      this.devices.delete(pci.bdf);
      throw error;
    }
    return device;
  }

  /**
   * Inside of the machine: takes a device off. First its users, then bonds, page requests and pending answers (SVA), then
   * translations, then the IOMMU driver's data: nobody finds a device that is half gone (A5, E16, L-6). Last its power: its
   * BARs answer no more.
   */
  async unplug(bdf: string): Promise<void> {
    const device = this.device(bdf);
    for (const service of this.#services) await service.deviceRemoved?.(this, bdf);
    await this.#shutdownSva(device);
    await this.#release(device);
    device.pci.remove?.();
  }

  async #release(device: Device): Promise<void> {
    await this.groups.remove(device);
    await device.iommu?.ops.releaseDevice(device);
    this.#segments[device.pci.segment]?.requesters.remove(device.pci.rid);
    this.devices.delete(device.name);
  }

  /** Waits as well when somebody shuts it down already. */
  async #shutdownSva(device: Device): Promise<void> {
    try {
      await this.sva.iommuSvaDeviceShutdown(device);
    } catch (error) {
      if (!isErrno(error, "ENODEV")) throw error;
    }
  }

  async addService(service: ServicePlugin): Promise<void> {
    this.#services.push(service);
    try {
      await service.install(this);
    } catch (error) {
      this.#services.splice(this.#services.indexOf(service), 1);
      throw error;
    }
  }

  /** Ends every task, takes everything off, and says what was left behind: an empty list when nothing leaked. */
  async close(): Promise<readonly string[]> {
    return this.run(async () => {
      for (const task of [...this.kernel.tasks.values()]) await task.exit();
      await this.scheduler.idle();
      const leaks = this.#services.flatMap((service) => service.leaks?.(this) ?? []);
      for (const service of this.#services) await service.close?.(this);
      for (const bdf of [...this.devices.keys()].reverse()) await this.unplug(bdf);
      await this.scheduler.idle();
      const { bonds, pasids, partials } = this.sva.inUse();
      if (bonds + pasids + partials > 0)
        leaks.push(`SVA: ${bonds} bonds, ${pasids} PASIDs, ${partials} partial fault groups`);
      for (const { iommu } of this.#segments) await iommu.stop();
      for (const [owner, pages] of this.pages.usage()) leaks.push(`${pages} pages of ${owner}`);
      return leaks;
    }, "close");
  }
}

/** Composes a machine and brings it up. `run` its programs, `close` it in the end. @throws IommuError a machine that cannot be */
export async function createPlatform(options: PlatformOptions): Promise<Platform> {
  const platform = new Platform(createBoard(options));
  await platform.run(async () => {
    for (const iommu of options.iommus) await platform.addIommu(iommu);
    for (const device of options.devices ?? []) await platform.plug(device);
    for (const service of options.services ?? []) await platform.addService(service);
  }, "boot");
  return platform;
}
