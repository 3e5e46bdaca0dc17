/**
 * Where the recorded machine, QEMU 7.2, differs from the architecture. Applied to what our model says before it is compared,
 * never to the model.
 */
import type { TranscriptHeader } from "@iommukit/cli/machines";
import { type TranscriptStep, toBig } from "./transcript.js";

/** EVT.CLASS, bits 105:104 of an event record: bits 41:40 of its second doubleword. */
const CLASS = 3n << 40n;

export function asQemu(header: TranscriptHeader, line: TranscriptStep, faults: readonly string[]): readonly string[] {
  if (header.machine === "aarch64") return withoutClass(faults);
  return hiddenByIotlb(line) || readsInterruptWindow(line) ? [] : faults;
}

/** QEMU 7.2 leaves CLASS at zero, "CD fetch", in every event; a stage 1 translation fault has IN (2). */
function withoutClass(faults: readonly string[]): string[] {
  let word = 0;
  return faults.map((text) => {
    word = text.includes("received:") ? 0 : word + 1;
    if (text.includes(" stag: ")) return text.replace(/'.*'/, "'CD fetch'");
    const at = text.indexOf("'x09");
    if (word !== 2 || at < 0) return text;
    const value = BigInt(text.slice(at + 4)) & ~CLASS;
    return `${text.slice(0, at + 4)}0x${value.toString(16).padStart(16, "0")}`;
  });
}

/** QEMU's VT-d refuses an access for which its IOTLB holds the page with other permissions, and records no fault. */
function hiddenByIotlb({ what }: TranscriptStep): boolean {
  return /page (read|written) before$/.test(what as string);
}

/** A read of the interrupt window is an interrupt-remapping fault; QEMU answers it from memory. */
function readsInterruptWindow({ dir, iova }: TranscriptStep): boolean {
  return dir === "read_memory" && toBig(iova) >> 20n === 0xfeen;
}
