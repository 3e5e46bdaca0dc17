/** A device's descriptor in a program: regions are read and written at their offset in the file. */
import type { Task } from "@iommukit/core";
import { DeviceInfo, IrqInfo, IrqSet, IrqSetFlags, PciIrq, RegionInfo } from "../uapi/device-structs.js";
import { concat } from "../uapi/info-caps.js";
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
} from "../uapi/ioctls.js";
import { decodeStruct } from "../uapi/struct.js";
import { argument } from "./argument.js";

/** VFIO_PCI_CONFIG_REGION_INDEX, and what is in the command register of configuration space. */
const CONFIG_REGION = 7;
const COMMAND_REGISTER = 0x04;
const MEMORY_SPACE = 2;
const BUS_MASTER = 4;

/** A device in a program; `VfioGroup.device` opens it. Methods throw IommuError with the errno of their system call. */
export class VfioDeviceClient {
  /** Where regions start in the file, as GET_REGION_INFO told. */
  readonly #offsets = new Map<number, number>();

  constructor(
    readonly task: Task,
    readonly fd: number,
  ) {}

  async info(): Promise<{ readonly flags: number; readonly numRegions: number; readonly numIrqs: number }> {
    const arg = argument(DeviceInfo, { argsz: DeviceInfo.bytes });
    await this.task.ioctl(this.fd, VFIO_DEVICE_GET_INFO, arg);
    const { flags, num_regions, num_irqs } = decodeStruct(DeviceInfo, arg);
    return { flags, numRegions: num_regions, numIrqs: num_irqs };
  }

  async regionInfo(index: number): Promise<{ readonly flags: number; readonly size: bigint; readonly offset: bigint }> {
    const arg = argument(RegionInfo, { argsz: RegionInfo.bytes, index });
    await this.task.ioctl(this.fd, VFIO_DEVICE_GET_REGION_INFO, arg);
    const { flags, size, offset } = decodeStruct(RegionInfo, arg);
    return { flags, size, offset };
  }

  async #position(region: number, offset: number): Promise<number> {
    let base = this.#offsets.get(region);
    if (base === undefined) {
      base = Number((await this.regionInfo(region)).offset);
      this.#offsets.set(region, base);
    }
    return base + offset;
  }

  /** @returns the bytes, fewer than asked at the end of the region */
  async read(region: number, offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    return bytes.subarray(0, await this.task.pread(this.fd, bytes, await this.#position(region, offset)));
  }

  async write(region: number, offset: number, bytes: Uint8Array): Promise<number> {
    return this.task.pwrite(this.fd, bytes, await this.#position(region, offset));
  }

  async read32(region: number, offset: number): Promise<number> {
    const bytes = await this.read(region, offset, 4);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  async write32(region: number, offset: number, value: number): Promise<void> {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    await this.write(region, offset, bytes);
  }

  /** A BAR access as a device's own driver makes it: fills `into`. @returns false when the region ends before */
  async readBar(bar: number, offset: number, into: Uint8Array): Promise<boolean> {
    return (await this.task.pread(this.fd, into, await this.#position(bar, offset))) === into.length;
  }

  async writeBar(bar: number, offset: number, bytes: Uint8Array): Promise<boolean> {
    return (await this.write(bar, offset, bytes)) === bytes.length;
  }

  /** @returns IrqInfoFlags, and how many there are */
  async irqInfo(index: number): Promise<{ readonly flags: number; readonly count: number }> {
    const arg = argument(IrqInfo, { argsz: IrqInfo.bytes, index });
    await this.task.ioctl(this.fd, VFIO_DEVICE_GET_IRQ_INFO, arg);
    const { flags, count } = decodeStruct(IrqInfo, arg);
    return { flags, count };
  }

  /** Enables interrupts: each signals its eventfd. -1 for one that nobody listens to. */
  async setIrqs(index: number, eventFds: readonly number[], start = 0): Promise<void> {
    const flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER;
    const data = new Uint8Array(Int32Array.from(eventFds).buffer);
    const head = { argsz: IrqSet.bytes + data.length, flags, index, start, count: eventFds.length };
    await this.task.ioctl(this.fd, VFIO_DEVICE_SET_IRQS, concat(argument(IrqSet, head), data));
  }

  /** Signals one interrupt's eventfd, as the device would. */
  async triggerIrq(index: number, start = 0): Promise<void> {
    const flags = IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER;
    const head = { argsz: IrqSet.bytes, flags, index, start, count: 1 };
    await this.task.ioctl(this.fd, VFIO_DEVICE_SET_IRQS, argument(IrqSet, head));
  }

  async disableIrqs(index: number): Promise<void> {
    const flags = IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER;
    await this.task.ioctl(this.fd, VFIO_DEVICE_SET_IRQS, argument(IrqSet, { argsz: IrqSet.bytes, flags, index }));
  }

  async unmaskIntx(): Promise<void> {
    const flags = IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_UNMASK;
    await this.task.ioctl(
      this.fd,
      VFIO_DEVICE_SET_IRQS,
      argument(IrqSet, { argsz: IrqSet.bytes, flags, index: PciIrq.INTX, count: 1 }),
    );
  }

  async reset(): Promise<void> {
    await this.task.ioctl(this.fd, VFIO_DEVICE_RESET);
  }

  /** Lets the device decode its memory BARs and do DMA (command register). */
  async enableBusMaster(): Promise<void> {
    await this.write(CONFIG_REGION, COMMAND_REGISTER, Uint8Array.of(MEMORY_SPACE | BUS_MASTER, 0));
  }

  close(): Promise<void> {
    return this.task.close(this.fd);
  }
}
