/**
 * QEMU's `edu` PCI device as a DMA source. Start QEMU with `-device edu,dma_mask=0xffffffffffffffff,addr=DEV.FN`; its
 * requester id is bus 0, that address. A transfer takes 100 ms of virtual time, which `dma` lets pass. A faulting read fills the
 * buffer with zeros; a faulting write is only seen in the IOMMU's records. One transfer is one transaction per 4 bytes when
 * it faults: use 4 aligned bytes for cases that may.
 */
import type { Qtest } from "./qtest.js";

/** The device's 4 KiB buffer in its own address space. */
const BUFFER = 0x40000;
export const EDU_BUFFER_SIZE = 0x1000;
const DMA_NANOSECONDS = 100_000_000;

export class Edu {
  /** @param bar where BAR 0 has been put; configure the device before */
  constructor(
    private readonly qtest: Qtest,
    private readonly bar: number,
  ) {}

  /** Queues a transfer of `length` bytes at `offset` of the buffer: device to memory when `write`. */
  dma(iova: bigint, offset: number, length: number, write: boolean): void {
    const { bar, qtest } = this;
    const buffer = BigInt(BUFFER + offset);
    qtest.writeq(bar + 0x80, write ? buffer : iova);
    qtest.writeq(bar + 0x88, write ? iova : buffer);
    qtest.writeq(bar + 0x90, BigInt(length));
    qtest.writeq(bar + 0x98, write ? 3n : 1n);
    qtest.clockStep(DMA_NANOSECONDS);
  }

  /** Queues filling the buffer from RAM; with the IOMMU off, or with `address` mapped. */
  load(address: bigint): void {
    // The device refuses the last byte of the buffer in some versions.
    this.dma(address, 0, EDU_BUFFER_SIZE - 4, false);
  }
}
