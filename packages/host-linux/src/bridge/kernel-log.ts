/** /dev/kmsg: the platform's kernel log, one record a read (Documentation/ABI/testing/dev-kmsg). */
import { type DeviceNode, type FileOps, IommuError, type Kernel } from "@iommukit/core";

const SEEK_SET = 0;
const SEEK_END = 2;
/** LOG_KERN, KERN_ERR. */
const PRIORITY = 3;

export function kernelLogNode(kernel: Kernel): DeviceNode {
  return { path: "/dev/kmsg", open: async () => new KernelLog(kernel) };
}

class KernelLog implements FileOps {
  readonly name = "/dev/kmsg";
  #next = 0;

  constructor(private readonly kernel: Kernel) {}

  /** The next record; characters that do not print are escaped. @throws IommuError EAGAIN at the end, EINVAL short buffer */
  async read(_task: unknown, into: Uint8Array): Promise<number> {
    if (this.#next >= this.kernel.log.length) throw new IommuError("EAGAIN", "the log has no more records");
    const text = this.kernel.log[this.#next].replace(/[^\x20-\x7e]/g, escaped);
    const record = Buffer.from(`${PRIORITY},${this.#next},${Math.floor(this.kernel.scheduler.now / 1000)},-;${text}\n`);
    if (record.length > into.length) throw new IommuError("EINVAL", `a record has ${record.length} bytes`);
    this.#next++;
    into.set(record);
    return record.length;
  }

  seek(offset: number, whence: number): number {
    if (offset !== 0 || (whence !== SEEK_SET && whence !== SEEK_END))
      throw new IommuError("ESPIPE", "a log goes to its first record or behind its last");
    this.#next = whence === SEEK_END ? this.kernel.log.length : 0;
    return 0;
  }
}

function escaped(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
}
