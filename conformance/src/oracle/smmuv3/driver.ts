/**
 * `oracle smmuv3 --mode driver`: our SMMUv3 driver brings up and drives QEMU's SMMUv3: stage 1, stage 2, identity and blocked.
 */
import { InterruptController, type IommuDomain, Mmio } from "@iommukit/core";
import { Smmuv3Driver, Smmuv3DriverOptions, smmuv3 } from "@iommukit/iommu-smmuv3";
import type { DependencyContainer } from "tsyringe";
import type { Report } from "../../report.js";
import { type DriverMachine, DriverOracle, type Mapping } from "../driver-oracle.js";
import { runEdu } from "../edu-machines.js";
import { Qtest } from "../qtest.js";
import { QtestMmio, QtestPciFunction, QtestWires } from "../qtest-board.js";
import type { OracleRequest } from "../request.js";

/** The `virt` machine of QEMU 11. */
const SMMU = 0x0905_0000;
const ECAM = 0x40_1000_0000;
const BAR = 0x1000_0000;
const RAM = { base: 0x4100_0000, size: 0x1000_0000 } as const;
const GIC = "/machine/unattached/device[1]";
const EDU_RID = 0x10;
const LINES = new Map([
  [74, "smmuv3.eventq"],
  [75, "smmuv3.priq"],
  [76, "smmuv3.cmd-sync"],
  [77, "smmuv3.gerror"],
]);

/**
 * Where QEMU 11.1 does otherwise than the architecture, as far as this driver sees it. Applied to what is expected, never to the driver.
 * - s2IpaLowBits: the IPA of a stage-2 event has the page offset in bits that are RES0 (7.3.13).
 * - s2HitPermission: a stage-2 permission fault on a TLB hit is taken for stage 1's, and CD.R = 0 leaves it unrecorded.
 */
export const QEMU_DRIVER_QUIRKS = { s2IpaLowBits: true, s2HitPermission: true } as const;

type Kind = "s1" | "s2" | "identity" | "blocked";

function startQemu(): Qtest {
  const machine = ["-M", "virt,iommu=smmuv3,gic-version=3", "-cpu", "max", "-m", "512", "-net", "none"];
  return new Qtest("aarch64", [...machine, "-device", "edu,dma_mask=0xffffffffffffffff,addr=02.0"]);
}

/** `--mode edu`: the same script on QEMU's machine and on ours. */
export async function runSmmuv3Edu({ cases, seed }: OracleRequest, report: Report): Promise<void> {
  const qtest = startQemu();
  try {
    let wires: QtestWires | undefined;
    const driver = (board: DependencyContainer) => {
      wires = new QtestWires(qtest, GIC, LINES, board.resolve(InterruptController));
      board.registerInstance<Mmio>(Mmio, new QtestMmio(qtest, SMMU));
      board.registerInstance<Smmuv3DriverOptions>(Smmuv3DriverOptions, { name: "smmuv3" });
      return board.resolve(Smmuv3Driver);
    };
    const settle = async () => wires?.pump();
    await runEdu({ machine: machineOf(qtest), iommu: smmuv3(), driver, settle }, cases, seed, report);
  } finally {
    qtest.close();
  }
}

export async function runDriver(request: OracleRequest, report: Report): Promise<void> {
  const qtest = startQemu();
  try {
    await new Smmuv3DriverOracle(machineOf(qtest), request.seed, report).run(request.cases);
  } finally {
    qtest.close();
  }
}

function machineOf(qtest: Qtest): DriverMachine {
  const pci = new QtestPciFunction(qtest, ECAM, EDU_RID, "0000:00:02.0");
  pci.writeConfig(0x10, 4, BAR);
  pci.writeConfig(0x04, 2, 6);
  return { qtest, ram: RAM, bar: BAR, pci };
}

class Smmuv3DriverOracle extends DriverOracle<Kind> {
  protected readonly driver: Smmuv3Driver;
  protected readonly kinds: readonly Kind[] = ["s1", "s1", "s2", "identity", "blocked"];
  readonly #wires: QtestWires;

  constructor(machine: DriverMachine, seed: number, report: Report) {
    super(machine, seed, report);
    this.#wires = new QtestWires(machine.qtest, GIC, LINES, this.board.resolve(InterruptController));
    this.board.registerInstance<Mmio>(Mmio, new QtestMmio(machine.qtest, SMMU));
    this.board.registerInstance<Smmuv3DriverOptions>(Smmuv3DriverOptions, { name: "smmuv3" });
    this.driver = this.board.resolve(Smmuv3Driver);
  }

  protected newDomain(kind: Kind): IommuDomain {
    const domain = this.driver.domainAlloc(
      this.isMapped(kind) ? "unmanaged" : (kind as "identity" | "blocked"),
      this.device,
    );
    if (kind === "s2") this.driver.enableNesting(domain);
    return domain;
  }

  protected isMapped(kind: Kind): boolean {
    return kind === "s1" || kind === "s2";
  }

  /** The lines that the driver prints for one event of the device (G31); a blocked device is aborted without one. */
  protected faultLines(iova: bigint, write: boolean, mapping: Mapping | undefined): string {
    if (this.kind === "blocked") return "";
    const code = mapping ? "13" : "10";
    const hex = (value: bigint) => `\t0x${value.toString(16).padStart(16, "0")}`;
    const stage2 = this.kind === "s2";
    const head = (BigInt(EDU_RID) << 32n) | BigInt(`0x${code}`);
    const flags = (2n << 40n) | (write ? 0n : 1n << 35n) | (stage2 ? 1n << 39n : 0n);
    const ipa = stage2 ? iova & (QEMU_DRIVER_QUIRKS.s2IpaLowBits ? -1n : ~0xfffn) : 0n;
    return [`event 0x${code} received:`, hex(head), hex(flags), hex(iova), hex(ipa)].join("|");
  }

  protected override isQuirk(write: boolean, mapping: Mapping | undefined, got: string): boolean {
    return QEMU_DRIVER_QUIRKS.s2HitPermission && this.kind === "s2" && write && mapping !== undefined && got === "";
  }

  protected async settle(): Promise<void> {
    this.#wires.pump();
    await this.scheduler.idle();
    this.#wires.pump();
    // The kernel prints ten events in five seconds.
    await this.scheduler.sleep(1_000_000_000);
  }

  protected takeFaults(): string {
    const lines = this.kernel.log.splice(0).map((line) => line.replace("arm-smmu-v3 smmuv3: ", ""));
    return lines.join("|");
  }
}
