/** VFIO ioctls: numbers (`ioctl 0x3b71`, strace's `VFIO_IOMMU_MAP_DMA` or `_IOC(…, 0x3b, 0x71, …)`) and the bytes of their argument. */
import type { AnyLayout } from "@iommukit/core";
import * as type1 from "@iommukit/vfio-type1";
import { hex } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { type Part, partOf } from "../record.js";
import { TABLES } from "../tables.js";

const NUMBERS = new Map<number, string[]>();
for (const [name, value] of Object.entries(type1)) {
  if (!name.startsWith("VFIO_") || typeof value !== "number" || value >> 8 !== 0x3b) continue;
  NUMBERS.set(value, [...(NUMBERS.get(value) ?? []), name]);
}

const CALL =
  /(?:\bioctl\s*\(?\s*(?:\d+(?:<[^>]*>)?\s*,\s*)?(?:(0x3b[0-9a-f]{2})\b|(VFIO_[A-Z0-9_]+)|_IOC\([A-Z_0|]+,\s*(0x3b),\s*(0x[0-9a-f]{2}),\s*0\))|^\s*(VFIO_[A-Z0-9_]+))(.*)$/i;
const BYTES = /(?:^|[\s,=])((?:[0-9a-f]{2} ?){8,})(?:\s|$|\))/i;

export class VfioIoctlRecogniser implements Recogniser {
  take(line: Line, emit: Emit): boolean {
    if (!line.text.includes("VFIO_") && !line.text.includes("ioctl")) return false;
    const match = CALL.exec(line.text);
    if (match === null) return false;
    const name = match[2] ?? match[5];
    const number = name === undefined ? Number(match[1] ?? (0x3b << 8) | Number(match[4])) : numberOf(name);
    const names = number === undefined ? undefined : NUMBERS.get(number);
    if (number === undefined || names === undefined) return false;
    const bytes = BYTES.exec(match[6])?.[1].replaceAll(" ", "");
    const table = bytes === undefined ? undefined : structOf(name === undefined ? names : [name]);
    const parts = table === undefined || bytes === undefined ? [] : partsOf(table, bytes);
    const fields = parts.flatMap((part) => part.fields.map((row) => `${row.name}=${row.value}`)).join(" ");
    emit({
      kind: "vfio.ioctl",
      line: line.number,
      raw: [line.text],
      summary: `ioctl ${hex(number, 4)}  ${(name === undefined ? names : [name]).join(" or ")}${fields === "" ? "" : `  ${fields}`}`,
      facts: {},
      parts,
      notes: notesOf(name, names, number),
    });
    return true;
  }
}

function numberOf(name: string): number | undefined {
  return [...NUMBERS].find(([, names]) => names.includes(name))?.[0];
}

/** The structures' summaries start with the ioctl that takes them. */
function structOf(names: readonly string[]): AnyLayout | undefined {
  const tables = TABLES.filter(
    ({ family, table }) => family === "vfio" && names.some((name) => table.summary.split(";")[0] === name),
  );
  const bind = TABLES.find(({ family, name }) => family === "vfio" && name === "Bind");
  if (names.some((name) => /_(UN)?BIND$/.test(name))) return bind?.table;
  return tables.length === 1 ? tables[0].table : undefined;
}

/** What follows a structure when it says so: with which flags (of bits 63:32), and what. */
const TAILS: readonly { readonly of: AnyLayout; readonly flags: number; readonly table: AnyLayout }[] = [
  { of: type1.Bind, flags: type1.VFIO_IOMMU_BIND_PROCESS, table: type1.BindProcess },
  { of: type1.DirtyBitmap, flags: type1.DirtyPagesFlags.GET_BITMAP, table: type1.DirtyBitmapGet },
  { of: type1.DmaUnmap, flags: type1.DmaUnmapFlags.GET_DIRTY_BITMAP, table: type1.Bitmap },
];

/** @param text hexadecimal digits, two for each byte */
function partsOf(table: AnyLayout, text: string): Part[] {
  const bytes = Buffer.from(text, "hex");
  const head = partOfBytes(table, bytes);
  const flags = bytes.length < 8 ? 0 : bytes.readUInt32LE(4);
  const tail = TAILS.find(({ of, flags: bit }) => of === table && (flags & bit) !== 0)?.table;
  const size = table.bits / 8;
  return tail === undefined || bytes.length <= size ? [head] : [head, partOfBytes(tail, bytes.subarray(size))];
}

/** What lies beyond the structure is left alone; fields that are cut off are left out. */
function partOfBytes(table: AnyLayout, given: Uint8Array): Part {
  const bytes = new Uint8Array(table.words * 4);
  bytes.set(given.subarray(0, bytes.length));
  return partOf(table, new Int32Array(bytes.buffer), 0, Math.min(given.length * 8, table.bits));
}

function notesOf(name: string | undefined, names: readonly string[], number: number): string[] {
  const notes =
    name === undefined && names.length > 1
      ? ["the number means another thing on each kind of descriptor: container or device"]
      : [];
  if (number !== type1.VFIO_IOMMU_BIND && number !== type1.VFIO_IOMMU_UNBIND) return notes;
  return [
    ...notes,
    "from the series Shared Virtual Addressing for the IOMMU (2018), never merged: Linux answers EINVAL on a container without an IOMMU, ENOTTY otherwise",
  ];
}
