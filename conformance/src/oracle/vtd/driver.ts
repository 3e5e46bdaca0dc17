/**
 * `oracle vtd --mode driver`: our VT-d driver brings up and drives QEMU's intel-iommu, a third of the cases each in legacy
 * mode, in scalable mode with a second stage, and with a first stage. What it prints for a fault is compared as Linux would
 * print it.
 */
import { InterruptController, type IommuDomain, IommuProt, Mmio } from "@iommukit/core";
import { FE, FSTS, faultReason, VtdDriver, VtdDriverOptions, vtd } from "@iommukit/iommu-vtd";
import type { DependencyContainer } from "tsyringe";
import type { Report } from "../../report.js";
import { type DriverMachine, DriverOracle, type Mapping } from "../driver-oracle.js";
import { runEdu } from "../edu-machines.js";
import { Qtest } from "../qtest.js";
import { QtestMmio, QtestPciFunction } from "../qtest-board.js";
import type { OracleRequest } from "../request.js";

/** The `q35` machine of QEMU 11. */
const DMAR = 0xfed9_0000;
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const BAR = 0xe000_0000;
const RAM = { base: 0x100_0000, size: 0x1000_0000 } as const;
const EDU_RID = 0x18;

export const VTD_DRIVER_MODES = ["legacy", "ss", "fs"] as const;
type Mode = (typeof VTD_DRIVER_MODES)[number];

const OPTIONS: Readonly<Record<Mode, string>> = {
  legacy: "",
  ss: ",scalable-mode=on",
  fs: ",scalable-mode=on,fsts=on",
};

/**
 * Where QEMU 11.1 does otherwise than the architecture, as far as this driver sees it.
 * - legacyCodes: the second stage of scalable mode reports the fault reasons of legacy mode.
 * - widthOfFirstStage: AW must stand in the PASID table entry of a first stage too; Linux writes it always.
 * - lostPasidEntry: whether a PASID table entry is present, and whether it passes through, is noticed only when the context
 *   entry is invalidated, which a change of the PASID table entry does not ask for: scalable mode moves between mapped domains only.
 * - silentHit: a write to a read-only page that the IOTLB holds is dropped without a record.
 */
export const QEMU_VTD_DRIVER_QUIRKS = {
  legacyCodes: true,
  widthOfFirstStage: true,
  lostPasidEntry: true,
  silentHit: true,
} as const;

type Kind = "mapped" | "identity" | "blocked";

function startQemu(mode: Mode): Qtest {
  const device = ["-device", "edu,dma_mask=0xffffffffffffffff,addr=03.0"];
  const iommu = ["-device", `intel-iommu,aw-bits=48${OPTIONS[mode]}`];
  return new Qtest("x86_64", ["-M", "q35", "-m", "512", "-net", "none", ...iommu, ...device]);
}

/** `--mode edu`: the same script on QEMU's machine, in legacy mode, and on ours. */
export async function runVtdEdu({ cases, seed }: OracleRequest, report: Report): Promise<void> {
  const qtest = startQemu("legacy");
  try {
    const mmio = new QtestMmio(qtest, DMAR);
    const driver = (board: DependencyContainer) => {
      board.registerInstance<Mmio>(Mmio, mmio);
      board.registerInstance<VtdDriverOptions>(VtdDriverOptions, { name: "vtd" });
      return board.resolve(VtdDriver);
    };
    const settle = (board: DependencyContainer) => passEventOn(mmio, board);
    await runEdu({ machine: machineOf(qtest), iommu: vtd(), driver, settle }, cases, seed, report);
  } finally {
    qtest.close();
  }
}

/** QEMU sends the event to its APIC: the message is taken from the registers when a fault is pending. */
async function passEventOn(mmio: Mmio, board: DependencyContainer): Promise<void> {
  if ((mmio.read32(FSTS.offset) & FSTS.PPF.lowMask) === 0) return;
  board.resolve(InterruptController).deliver(mmio.read32(FE.ADDR.offset), mmio.read32(FE.DATA.offset));
}

export async function runVtdDriver(request: OracleRequest, report: Report): Promise<void> {
  for (const [index, mode] of VTD_DRIVER_MODES.entries()) {
    const share = Math.floor(request.cases / 3) + (index < request.cases % 3 ? 1 : 0);
    if (share === 0) continue;
    const qtest = startQemu(mode);
    try {
      await new VtdDriverOracle(machineOf(qtest), mode, request.seed + index, report).run(share);
    } finally {
      qtest.close();
    }
  }
}

function machineOf(qtest: Qtest): DriverMachine {
  const pci = new PortPciFunction(qtest, 0, EDU_RID, "0000:00:03.0");
  pci.writeConfig(0x10, 4, BAR);
  pci.writeConfig(0x04, 2, 6);
  return { qtest, ram: RAM, bar: BAR, pci };
}

/** A function whose configuration space is reached through ports: q35 without firmware decodes no memory for it. */
class PortPciFunction extends QtestPciFunction {
  override readonly configSize = 256;

  #select(offset: number): void {
    this.qtest.send(`outl ${CONFIG_ADDRESS} ${(0x8000_0000 | (this.rid << 8) | (offset & 0xfc)) >>> 0}`);
  }

  override readConfig(offset: number, width: 1 | 2 | 4): number {
    this.#select(offset);
    const word = this.qtest.later(`inl ${CONFIG_DATA}`);
    this.qtest.flush();
    const shifted = Math.floor(word.value / 2 ** (8 * (offset & 3)));
    return width === 4 ? word.value : shifted % 2 ** (8 * width);
  }

  override writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#select(offset);
    const command = { 1: "outb", 2: "outw", 4: "outl" }[width];
    this.qtest.send(`${command} ${CONFIG_DATA + (offset & 3)} ${value >>> 0}`);
  }
}

class VtdDriverOracle extends DriverOracle<Kind> {
  protected readonly driver: VtdDriver;
  protected readonly kinds: readonly Kind[];
  readonly #mmio: Mmio;
  /** The driver makes it with the bus's first context entry. */
  #hasContextTable = false;

  constructor(
    machine: DriverMachine,
    private readonly mode: Mode,
    seed: number,
    report: Report,
  ) {
    super(machine, seed, report);
    this.#mmio = new QtestMmio(machine.qtest, DMAR);
    this.board.registerInstance<Mmio>(Mmio, this.#mmio);
    const widthAlways = QEMU_VTD_DRIVER_QUIRKS.widthOfFirstStage;
    this.board.registerInstance<VtdDriverOptions>(VtdDriverOptions, { name: "vtd", widthAlways });
    this.driver = this.board.resolve(VtdDriver);
    const onlyMapped = mode !== "legacy" && QEMU_VTD_DRIVER_QUIRKS.lostPasidEntry;
    this.kinds = onlyMapped ? ["mapped"] : ["mapped", "mapped", "identity", "blocked"];
  }

  protected newDomain(kind: Kind): IommuDomain {
    this.#hasContextTable ||= kind !== "blocked";
    return this.driver.domainAlloc(kind === "mapped" ? "unmanaged" : kind, this.device);
  }

  protected isMapped(kind: Kind): boolean {
    return kind === "mapped";
  }

  protected faultLines(iova: bigint, write: boolean, mapping: Mapping | undefined): string {
    const code = this.#faultCode(write, mapping);
    const reason = `[fault reason 0x${code.toString(16).padStart(2, "0")}] ${faultReason(code)?.meaning}`;
    const page = (iova >> 12n) << 12n;
    const request = `[DMA ${write ? "Write" : "Read"} NO_PASID] Request device [00:03.0]`;
    return `DMAR: DRHD: handling fault status reg 2|DMAR: ${request} fault addr 0x${page.toString(16)} ${reason}`;
  }

  #faultCode(write: boolean, mapping: Mapping | undefined): number {
    if (this.kind === "blocked") return this.#hasContextTable ? 0x02 : 0x01;
    if (this.mode === "fs") return mapping && (mapping.prot & IommuProt.READ) !== 0 ? 0x85 : 0x71;
    if (this.mode === "ss" && !QEMU_VTD_DRIVER_QUIRKS.legacyCodes) return 0x79;
    return write ? 0x05 : 0x06;
  }

  protected override isQuirk(write: boolean, mapping: Mapping | undefined, got: string): boolean {
    return QEMU_VTD_DRIVER_QUIRKS.silentHit && write && mapping !== undefined && got === "";
  }

  protected settle(): Promise<void> {
    return passEventOn(this.#mmio, this.board);
  }

  protected takeFaults(): string {
    return this.kernel.log.splice(0).join("|");
  }
}
