/** The files of the running Linux machine, as far as this user may read them. */
import { closeSync, constants, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { release } from "node:os";
import { gunzipSync } from "node:zlib";
import type { Machine } from "./machine.js";

export function readLive(machine: Machine): void {
  const command = text("/proc/cmdline");
  if (command !== undefined) machine.line(`Kernel command line: ${command.trim()}`);
  for (const line of config().split("\n")) machine.line(line);
  for (const unit of names("/sys/class/iommu").filter((name) => name.startsWith("dmar"))) {
    const [cap, ecap] = ["cap", "ecap"].map((name) => text(`/sys/class/iommu/${unit}/intel-iommu/${name}`)?.trim());
    if (cap !== undefined && ecap !== undefined)
      machine.line(`DMAR: ${unit}: reg_base_addr 0 ver 0:0 cap ${cap} ecap ${ecap}`);
  }
  for (const group of names("/sys/kernel/iommu_groups")) {
    const path = `/sys/kernel/iommu_groups/${group}`;
    machine.line(`${path}/type:${text(`${path}/type`) ?? ""}`);
    for (const bdf of names(`${path}/devices`)) machine.line(`${path}/devices/${bdf}`);
  }
  for (const line of kernelLog()) machine.line(line);
  for (const bdf of names("/sys/bus/pci/devices")) for (const line of lspciLines(bdf)) machine.line(line);
}

/** Records of /dev/kmsg, one a read: "6,339,5140900,-;text", then lines of their own. Empty where this user may not read it. */
function kernelLog(): string[] {
  const lines: string[] = [];
  const record = Buffer.alloc(8192);
  let fd: number | undefined;
  try {
    fd = openSync("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);
    for (;;) lines.push(messageOf(record.toString("latin1", 0, readSync(fd, record))));
  } catch {
    // EAGAIN at the end of the log.
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
  return lines;
}

function messageOf(record: string): string {
  return record.slice(record.indexOf(";") + 1).split("\n")[0];
}

/** A device's configuration space in lspci's form. */
function lspciLines(bdf: string): string[] {
  const bytes = file(`/sys/bus/pci/devices/${bdf}/config`);
  if (bytes === undefined) return [];
  const rows = Array.from({ length: bytes.length >> 4 }, (_, n) => {
    const row = bytes
      .subarray(n * 16, n * 16 + 16)
      .toString("hex")
      .replaceAll(/..(?!$)/g, "$& ");
    return `${(n * 16).toString(16).padStart(2, "0")}: ${row}`;
  });
  return [`${bdf} PCI function`, ...rows];
}

function config(): string {
  const packed = file("/proc/config.gz");
  return packed === undefined ? (text(`/boot/config-${release()}`) ?? "") : gunzipSync(packed).toString();
}

function file(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

function text(path: string): string | undefined {
  return file(path)?.toString();
}

function names(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
