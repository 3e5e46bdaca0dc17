/**
 * A C program under `iommukit run`: how long its ioctls and register accesses take it, on the wall clock, and how fast a
 * device's DMA of 4 KiB reaches its memory, in CPU time of the process that models the machine.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { runSession, type SessionResult } from "@iommukit/cli/run";
import { createPlatform, NO_PASID, type Platform } from "@iommukit/core";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, type PciDevice } from "@iommukit/pci-device";
import { vfioType1 } from "@iommukit/vfio-type1";

export interface RunRow {
  readonly operation: string;
  readonly value: number;
  readonly unit: string;
}

/** What the program has measured: nanoseconds. */
interface Measured {
  readonly map: number;
  readonly ioctl: number;
  readonly load: number;
}

const BDF = "0000:01:00.0";
const IOVA = 0x1000_0000;
const BYTES = 16 * 2 ** 20;
const PAGE = 4096;
const TRANSFERS = 20_000;

export async function run(): Promise<RunRow[]> {
  const directory = mkdtempSync(join(tmpdir(), "iommukit-bench-"));
  const at = (name: string) => join(directory, name);
  try {
    const source = fileURLToPath(new URL("../c/vfio-program.c", import.meta.url));
    execFileSync(process.env.CC ?? "gcc", ["-O2", "-o", at("program"), source]);
    const devices = [accelerator({ bdf: BDF, ats: null, pri: null, pasid: null })];
    const platform = await createPlatform({ iommus: [vtd()], devices, services: [vfioType1()] });
    const args = [IOVA, BYTES, at("result"), at("done")].map(String);
    const session = runSession({ machine: { platform }, program: at("program"), args });
    const measured = watch(at("result"), session).then(async () => [
      ...programRows(at("result")),
      ...(await dma(platform)),
    ]);
    await measured.finally(() => writeFileSync(at("done"), ""));
    const { status } = await session;
    if (status !== 0) throw new Error(`the program ended with status ${status}`);
    return measured;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Until the file is there. @throws Error when the program ends without it */
async function watch(path: string, session: Promise<SessionResult>): Promise<void> {
  let ended: SessionResult | undefined;
  void session.then((result) => (ended = result));
  while (!existsSync(path)) {
    if (ended) throw new Error(`the program ended with status ${ended.status}`);
    await delay(10);
  }
}

function programRows(path: string): RunRow[] {
  const { map, ioctl, load } = JSON.parse(readFileSync(path, "utf8")) as Measured;
  return [
    { operation: "ioctl, median", value: ioctl / 1000, unit: "µs" },
    { operation: "load from a mapped BAR, median", value: load / 1000, unit: "µs" },
    { operation: "VFIO_IOMMU_MAP_DMA of 16 MiB", value: map / 1e6, unit: "ms" },
  ];
}

/** The second of two rounds, when everything is compiled. */
function dma(platform: Platform): Promise<RunRow[]> {
  const { dma: engine } = platform.device(BDF).pci as PciDevice;
  const bytes = new Uint8Array(PAGE).fill(0x5a);
  return platform.run(async () => {
    const rows: RunRow[] = [];
    for (const round of [1, 2])
      for (const direction of ["read", "write"] as const) {
        const start = process.cpuUsage();
        for (let i = 0; i < TRANSFERS; i++) {
          const address = BigInt(IOVA + ((i * PAGE) % BYTES));
          const { status } = await engine[direction](NO_PASID, address, bytes);
          if (status !== 0) throw new Error(`DMA at 0x${address.toString(16)} ended with status ${status}`);
        }
        const { user, system } = process.cpuUsage(start);
        const value = (TRANSFERS * PAGE) / (user + system);
        if (round === 2) rows.push({ operation: `DMA ${direction} of 4 KiB`, value, unit: "MB per s of CPU" });
      }
    return rows;
  });
}
