/** PCI addresses as text: "0000:01:00.0" is segment, bus, device, function. */
import { IommuError } from "../kernel/errno.js";

/** `rid` is bus << 8 | device << 3 | function. */
export interface PciAddress {
  readonly segment: number;
  /** bus << 8 | device << 3 | function. */
  readonly rid: number;
}

/** @throws IommuError EINVAL the text is no address; the segment may be left out */
export function parseBdf(text: string): PciAddress {
  const match = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/i.exec(text);
  if (!match) throw new IommuError("EINVAL", `"${text}" is no PCI address such as 0000:01:00.0`);
  const [segment, bus, device, fn] = match.slice(1).map((part) => Number.parseInt(part ?? "0", 16));
  return { segment, rid: (bus << 8) | (device << 3) | fn };
}

/** "0000:01:00.0". */
export function formatBdf({ segment, rid }: PciAddress): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  return `${hex(segment, 4)}:${hex(rid >>> 8, 2)}:${hex((rid >>> 3) & 0x1f, 2)}.${rid & 7}`;
}
