/** VFIO_DEVICE_IOEVENTFD: a write to a BAR whenever an eventfd is signalled. */
import { type EventFd, IommuError, type PciFunction, type Task, type UserPointer } from "@iommukit/core";
import { IoEventFd, IoEventFdFlags, PciRegion } from "../uapi/device-structs.js";
import { decodeStruct } from "../uapi/struct.js";
import { eventOf } from "./event-of.js";
import type { MsixVectors } from "./msi-vectors.js";
import { REGION_SPAN } from "./regions.js";

/** VFIO_PCI_IOEVENTFD_MAX */
const MOST = 1000;

export class IoEventFds {
  readonly #active = new Map<string, () => void>();

  constructor(
    private readonly pci: PciFunction,
    private readonly msix: MsixVectors,
  ) {}

  async set(task: Task, arg: UserPointer): Promise<number> {
    const { argsz, flags, offset, data, fd } = decodeStruct(IoEventFd, await arg.copyFrom(IoEventFd.bytes));
    const width = flags & IoEventFdFlags.SIZE_MASK;
    if (argsz < IoEventFd.bytes || (flags & ~IoEventFdFlags.SIZE_MASK) !== 0 || ![1, 2, 4, 8].includes(width))
      throw new IommuError("EINVAL", `argsz ${argsz}, flags ${flags}: one of 1, 2, 4, 8 bytes`);
    if ((fd | 0) < -1) throw new IommuError("EINVAL", `descriptor ${fd | 0}`);
    const index = Math.floor(Number(offset) / REGION_SPAN);
    const at = Number(offset) % REGION_SPAN;
    const bar = index < PciRegion.ROM ? this.pci.bars.find((candidate) => candidate.index === index) : undefined;
    if (!bar || at + width > bar.size || this.#inTable(index, at, width))
      throw new IommuError("EINVAL", `${width} bytes at 0x${offset.toString(16)} are not in a BAR's registers`);
    const key = `${offset}/${width}/${data}`;
    if ((fd | 0) === -1) this.#remove(key);
    else this.#add(key, eventOf(task, fd), index, at, bytesOf(data, width));
    return 0;
  }

  #inTable(index: number, at: number, width: number): boolean {
    const { table } = this.msix;
    return table?.bar === index && at < table.offset + table.bytes && at + width > table.offset;
  }

  #remove(key: string): void {
    const stop = this.#active.get(key);
    if (!stop) throw new IommuError("ENODEV", "no such ioeventfd");
    stop();
    this.#active.delete(key);
  }

  #add(key: string, event: EventFd, bar: number, at: number, bytes: Uint8Array): void {
    if (this.#active.has(key)) throw new IommuError("EEXIST", "there is such an ioeventfd");
    if (this.#active.size >= MOST) throw new IommuError("ENOSPC", `${MOST} ioeventfds`);
    this.#active.set(
      key,
      event.onSignal(() => this.pci.writeBar(bar, at, bytes)),
    );
  }

  clear(): void {
    for (const stop of this.#active.values()) stop();
    this.#active.clear();
  }
}

function bytesOf(data: bigint, width: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, data, true);
  return bytes.subarray(0, width);
}
