/** Finds a QEMU 11 or newer: the directory that IOMMUKIT_QEMU names (with a script `qemu TARGET ARGS…`), or PATH. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../tool.js";

export type QemuTarget = "aarch64" | "x86_64";

/** What to execute, and the arguments that come before QEMU's own. */
export interface QemuCommand {
  readonly file: string;
  readonly args: readonly string[];
  /** "11.1.3" */
  readonly version: string;
}

/** @throws UsageError with one line that says how to get one */
export function findQemu(target: QemuTarget): QemuCommand {
  const dir = process.env.IOMMUKIT_QEMU;
  if (dir !== undefined && dir !== "") {
    const script = join(dir, "qemu");
    if (!existsSync(script)) throw new UsageError(`IOMMUKIT_QEMU=${dir}: there is no ${script}`);
    return checked(script, [target]);
  }
  return checked(`qemu-system-${target}`, []);
}

function checked(file: string, args: readonly string[]): QemuCommand {
  const { stdout, error } = spawnSync(file, [...args, "--version"], { encoding: "utf8" });
  const version = /version (\d+)\.(\d+)\.(\d+)/.exec(error ? "" : stdout);
  if (version === null) {
    throw new UsageError(
      `no QEMU: install qemu-system ≥ 11 (Debian: qemu-system-arm, qemu-system-x86) or set IOMMUKIT_QEMU to a directory with one`,
    );
  }
  if (Number(version[1]) < 11)
    throw new UsageError(`${file} is QEMU ${version[0].slice(8)}; the oracle needs 11 or newer (set IOMMUKIT_QEMU)`);
  return { file, args, version: version.slice(1).join(".") };
}
