/** QEMU's q35 with an intel-iommu and one edu device: where things are, and how they are set up without firmware. */
import { FRCD } from "@iommukit/iommu-vtd";
import { Edu } from "../edu.js";
import { Qtest } from "../qtest.js";

export const DMAR = 0xfed9_0000;
export const RAM_SIZE = 0x2000_0000;
/** Requester id of the edu device: bus 0, device 3. */
export const RID = 0x18;
const BAR = 0xe000_0000;
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
/** What the device's buffer holds, and so writes. */
export const PATTERN = 0xa5a5_a5a5;
/** Writes come from the start of the buffer; reads go to its second half, so that the pattern stays. */
const READ_OFFSET = 0x800;

export type VtdMode = "legacy" | "ss" | "fs";

const OPTIONS: Readonly<Record<VtdMode, string>> = {
  legacy: "",
  ss: ",scalable-mode=on",
  fs: ",scalable-mode=on,fsts=on",
};

export class QemuBoard {
  readonly qtest: Qtest;
  readonly #edu: Edu;

  constructor(mode: VtdMode) {
    const iommu = `intel-iommu,aw-bits=48${OPTIONS[mode]}`;
    this.qtest = new Qtest("x86_64", [
      "-M",
      "q35",
      "-m",
      "512",
      "-net",
      "none",
      "-device",
      iommu,
      "-device",
      "edu,dma_mask=0xffffffffffffffff,addr=03.0",
    ]);
    this.#config(0x10, BAR);
    this.#config(0x04, 6);
    this.#edu = new Edu(this.qtest, BAR);
    this.qtest.fill(0x10_0000, 0x1000, PATTERN & 0xff);
    this.#edu.load(0x10_0000n);
    this.qtest.flush();
  }

  #config(register: number, value: number): void {
    this.qtest.send(`outl ${CONFIG_ADDRESS} ${(0x8000_0000 | (RID << 8) | register) >>> 0}`);
    this.qtest.send(`outl ${CONFIG_DATA} ${value}`);
  }

  /** Queues a transfer of four bytes by the device. */
  dma(iova: bigint, write: boolean): void {
    this.#edu.dma(iova, write ? 0 : READ_OFFSET, 4, write);
  }

  /** Queues reads of the fault recording register at `offset`, and clears it. */
  takeFault(offset: number): readonly [lo: ReturnType<Qtest["later"]>, hi: ReturnType<Qtest["later"]>] {
    const replies = [
      this.qtest.later(`readq ${DMAR + offset}`),
      this.qtest.later(`readq ${DMAR + offset + 8}`),
    ] as const;
    this.qtest.writel(DMAR + offset + FRCD.bytes - 4, 0x8000_0000);
    return replies;
  }
}
