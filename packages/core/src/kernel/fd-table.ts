/** File descriptors of one process. */
import { IommuError } from "./errno.js";
import { O, type OpenFile } from "./file.js";

interface Slot {
  readonly file: OpenFile;
  readonly closeOnExec: boolean;
}

/** Lowest free number first, from 3 up. */
export class FdTable {
  readonly #slots: (Slot | undefined)[] = [];

  install(file: OpenFile, closeOnExec = (file.flags & O.CLOEXEC) !== 0): number {
    let fd = this.#slots.findIndex((slot, index) => slot === undefined && index >= 3);
    if (fd < 0) fd = Math.max(3, this.#slots.length);
    this.#slots[fd] = { file, closeOnExec };
    return fd;
  }

  /** @throws IommuError EBADF */
  get(fd: number): OpenFile {
    const slot = this.#slots[fd];
    if (!slot) throw new IommuError("EBADF", `descriptor ${fd} is not open`);
    return slot.file;
  }

  /** @throws IommuError EBADF */
  async close(fd: number): Promise<void> {
    const file = this.get(fd);
    this.#slots[fd] = undefined;
    await file.put();
  }

  /** fork: the same open files under the same numbers. */
  clone(): FdTable {
    const copy = new FdTable();
    for (const [fd, slot] of this.#slots.entries()) {
      if (slot) copy.#slots[fd] = { file: slot.file.get(), closeOnExec: slot.closeOnExec };
    }
    return copy;
  }

  async closeAll(filter: (closeOnExec: boolean) => boolean = () => true): Promise<void> {
    for (const [fd, slot] of this.#slots.entries()) {
      if (slot && filter(slot.closeOnExec)) await this.close(fd);
    }
  }

  get open(): readonly { readonly fd: number; readonly name: string }[] {
    return this.#slots.flatMap((slot, fd) => (slot ? [{ fd, name: slot.file.ops.name }] : []));
  }
}
