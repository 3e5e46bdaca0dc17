/** The recorder's use of the edu device's DMA engine, through its mapped BAR: addresses, count, command, poll. */
import type { AddressSpace, FileMapping, Platform, Task } from "@iommukit/core";

/** QEMU docs/specs/edu.rst. */
const SOURCE = 0x80;
const DESTINATION = 0x88;
const COUNT = 0x90;
const COMMAND = 0x98;
const START = 1;
const TO_RAM = 2;
/** The device's own buffer, as its engine addresses it. */
const EDU_BUFFER = 0x40000n;
/** PCI_COMMAND and its bits MEMORY and MASTER; the configuration space is region 7. */
const COMMAND_POSITION = 7 * 2 ** 40 + 4;
const MEMORY_AND_MASTER = 6;
const BAR_SIZE = 1 << 20;
const POLL = 20_000_000;

export class EduDma {
  private constructor(
    private readonly platform: Platform,
    private readonly task: Task,
    private readonly fd: number,
    private readonly bar: FileMapping,
    private readonly address: bigint,
  ) {}

  static async open(platform: Platform, task: Task, fd: number): Promise<EduDma> {
    const command = new Uint8Array(2);
    await task.pread(fd, command, COMMAND_POSITION);
    command[0] |= MEMORY_AND_MASTER;
    await task.pwrite(fd, command, COMMAND_POSITION);
    const mapping = task.fds.get(fd).ops.mmap?.(task, 0, BAR_SIZE, true, true);
    if (!mapping) throw new Error("the device's BAR cannot be mapped");
    const address = await (task.mm as AddressSpace).mmap({ length: BAR_SIZE, shared: true, device: mapping });
    return new EduDma(platform, task, fd, mapping, address);
  }

  unmap(): Promise<void> {
    return (this.task.mm as AddressSpace).munmap(this.address, BAR_SIZE);
  }

  /** @param direction "read_memory": from `iova` into the device's buffer; "write_memory": the other way */
  async run(direction: string, iova: bigint, length: bigint): Promise<void> {
    const read = direction === "read_memory";
    this.#write64(SOURCE, read ? iova : EDU_BUFFER);
    this.#write64(DESTINATION, read ? EDU_BUFFER : iova);
    this.#write64(COUNT, length);
    const command = new Uint8Array(4);
    command[0] = read ? START : START | TO_RAM;
    await this.task.pwrite(this.fd, command, COMMAND);
    do {
      await this.platform.scheduler.sleep(POLL);
      await this.task.pread(this.fd, command, COMMAND);
    } while ((command[0] & START) !== 0);
    // The recorder waits for the kernel's log.
    await this.platform.scheduler.sleep(POLL);
  }

  #write64(register: number, value: bigint): void {
    const page = this.bar.page(register & ~0xfff);
    if (page === undefined) throw new Error("the mapped BAR has no page");
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.platform.bus.write(page + (register & 0xfff), bytes);
  }
}
