/** Configuration space as `lspci -xxxx` prints it, which `lspci -F FILE` reads. */
import type { PciFunction } from "@iommukit/core";

/** One block per function: a title line that starts with its address, and sixteen bytes a line. */
export function lspciDump(functions: readonly PciFunction[]): string {
  return functions.map(dumpOne).join("\n");
}

function dumpOne(pci: PciFunction): string {
  const lines = [`${pci.bdf} iommukit`];
  for (let at = 0; at < pci.configSize; at += 16) {
    const bytes = Array.from({ length: 16 }, (_, n) => hex(pci.readConfig(at + n, 1), 2));
    lines.push(`${hex(at, 2)}: ${bytes.join(" ")}`);
  }
  return `${lines.join("\n")}\n`;
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
