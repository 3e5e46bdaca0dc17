/** Kernel samepage merging: equal private pages share one frame until somebody writes. The caller holds the mmap_lock. */
import { PAGE_SIZE } from "../memory/address.js";
import type { AddressSpace } from "./address-space.js";
import type { Frames } from "./frames.js";
import { PageFlag } from "./page-table/page-table.js";

/** Write-protects both before it compares: no device may change one in between. @returns whether they are one now */
export async function mergePages(space: AddressSpace, kept: number, merged: number): Promise<boolean> {
  const { frames } = space.environment;
  const { mappings } = space;
  const both = [kept, merged];
  const candidate = (page: number) => {
    const resident = mappings.pages.get(page);
    const vma = space.vmaList.find(page);
    return resident && vma && !vma.shared && !resident.hidden && isMergeable(frames, resident.pa)
      ? resident
      : undefined;
  };
  if (kept === merged || !both.every(candidate)) return false;
  for (const page of both) {
    await mappings.split(page);
    await mappings.update(page, page + 1, 0, PageFlag.WRITE);
  }
  const [a, b] = both.map(candidate);
  if (!a || !b || a.pa === b.pa || !equal(space, a.pa, b.pa)) return false;
  frames.hold(a.pa, "mappings");
  await mappings.replace(merged, a.pa, b.flags, () => {});
  return true;
}

/** PageAnon, and no device knows where it is: a file's page would change with the file. */
function isMergeable(frames: Frames, pa: number): boolean {
  const frame = frames.at(pa);
  return frame !== undefined && frame.pins === 0 && frame.caches === 0 && !frames.isZeroPage(pa);
}

function equal(space: AddressSpace, a: number, b: number): boolean {
  const [left, right] = [a, b].map((pa) => {
    const bytes = new Uint8Array(PAGE_SIZE);
    space.environment.bus.read(pa, bytes);
    return bytes;
  });
  return left.every((byte, i) => byte === right[i]);
}
