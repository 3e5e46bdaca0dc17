import { Access, NO_PASID } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { NIC_CONTROL, NIC_DESCRIPTOR, NIC_RX, NIC_TX, Nic, type NicOptions } from "../../src/devices/nic.js";
import { Bench, RAM } from "../support/bench.js";

const RW = Access.READ | Access.WRITE;
const TX_RING = 0x1000;
const RX_RING = 0x2000;

function setUp(options: Partial<NicOptions> = {}, pasid = NO_PASID) {
  const bench = new Bench();
  const device = new Nic({ bdf: "0000:02:00.0", ...options }, bench.ports());
  bench.enable(device);
  const map = (page: number, perms = RW) => bench.iommu.map(pasid, BigInt(page), { pa: RAM + page, perms });
  const write = (offset: number, value: number) =>
    device.writeBar(0, offset, new Uint8Array(Uint32Array.of(value).buffer));
  const post = (ring: number, index: number, buffer: number, length: number) => {
    const words = NIC_DESCRIPTOR.encode({ BufferAddress: buffer, Length: length, Owned: true, Cookie: 0x100 + index });
    bench.memory.writeBytes(RAM + ring + 16 * index, new Uint8Array(words.buffer));
  };
  const descriptor = (ring: number, index: number) => {
    const words = new Int32Array(4);
    new Uint8Array(words.buffer).set(bench.bytes(RAM + ring + 16 * index, 16));
    return NIC_DESCRIPTOR.decode(words);
  };
  const frames: number[][] = [];
  device.onTransmit = (frame) => frames.push([...frame]);
  const program = () => {
    write(NIC_TX.base.offset, TX_RING);
    write(NIC_TX.size.offset, 8);
    write(NIC_RX.base.offset, RX_RING);
    write(NIC_RX.size.offset, 4);
    write(0, NIC_CONTROL.encode({ Enable: true, PASIDEnable: pasid !== NO_PASID, PASID: Math.max(pasid, 0) })[0]);
  };
  program();
  return { bench, device, map, write, post, descriptor, frames, program };
}

describe("nic", () => {
  it("sends what the ring points to and gives the descriptors back", () => {
    const { bench, device, map, write, post, descriptor, frames } = setUp();
    for (const page of [TX_RING, 0x5000]) map(page);
    bench.memory.writeBytes(RAM + 0x5000, Uint8Array.of(1, 2, 3, 4, 5, 6));
    post(TX_RING, 0, 0x5000, 4);
    post(TX_RING, 1, 0x5004, 2);
    write(NIC_TX.tail.offset, 2);
    expect(frames).toEqual([
      [1, 2, 3, 4],
      [5, 6],
    ]);
    expect(descriptor(TX_RING, 1)).toMatchObject({ Owned: false, Error: false, Length: 2, Cookie: 0x101 });
    expect(device.counters).toMatchObject({ sent: 2, errors: 0 });
  });

  it("puts what arrives into receive buffers, and drops it when there is none", () => {
    const { bench, device, map, write, post, descriptor } = setUp();
    for (const page of [RX_RING, 0x6000]) map(page);
    post(RX_RING, 0, 0x6000, 64);
    write(NIC_RX.tail.offset, 1);
    device.receive(Uint8Array.of(9, 8, 7));
    device.receive(Uint8Array.of(1));
    expect([...bench.bytes(RAM + 0x6000, 3)]).toEqual([9, 8, 7]);
    expect(descriptor(RX_RING, 0)).toMatchObject({ Owned: false, Length: 3 });
    expect(device.counters).toMatchObject({ received: 1, dropped: 1 });
  });

  it("says in the descriptor that a buffer could not be reached, and goes on", () => {
    const { device, map, write, post, descriptor, frames } = setUp();
    for (const page of [TX_RING, 0x5000]) map(page);
    post(TX_RING, 0, 0x9000, 4);
    post(TX_RING, 1, 0x5000, 4);
    write(NIC_TX.tail.offset, 2);
    expect(descriptor(TX_RING, 0)).toMatchObject({ Owned: false, Error: true });
    expect(frames).toHaveLength(1);
    expect(device.counters.errors).toBe(1);
  });

  it("asks for pages that are missing and sends in order all the same", async () => {
    const { bench, device, map, write, post, frames } = setUp({ ats: {}, pri: {}, pasid: {} }, 3);
    map(TX_RING);
    map(0x6000);
    bench.memory.writeBytes(RAM + 0x5000, Uint8Array.of(5));
    bench.memory.writeBytes(RAM + 0x6000, Uint8Array.of(6));
    bench.iommu.onPageRequest = ({ rid, pasid, prgi, lo }) => {
      bench.scheduler.timer(1000, () => {
        map(lo);
        device.pageResponse({ rid, pasid, prgi, code: 0 });
      });
    };
    post(TX_RING, 0, 0x5000, 1);
    post(TX_RING, 1, 0x6000, 1);
    await bench.run(async () => {
      write(NIC_TX.tail.offset, 2);
      expect(frames).toEqual([]);
      await bench.scheduler.sleep(5000);
    });
    expect(frames).toEqual([[5], [6]]);
  });

  it("sends once what waits for a page, though what waited before a reset ends meanwhile", async () => {
    const { bench, device, map, write, post, frames, program } = setUp({ ats: {}, pri: {}, pasid: {} }, 3);
    for (const page of [TX_RING, 0x6000]) map(page);
    bench.memory.writeBytes(RAM + 0x5000, Uint8Array.of(5));
    bench.memory.writeBytes(RAM + 0x6000, Uint8Array.of(6));
    const answers: (() => void)[] = [];
    bench.iommu.onPageRequest = ({ rid, pasid, prgi, lo }) =>
      answers.push(() => {
        map(lo);
        device.pageResponse({ rid, pasid, prgi, code: 0 });
      });
    post(TX_RING, 0, 0x5000, 1);
    post(TX_RING, 1, 0x6000, 1);
    await bench.run(async () => {
      write(NIC_TX.tail.offset, 1);
      await bench.scheduler.sleep(10);
      device.reset("function");
      bench.enable(device);
      program();
      write(NIC_TX.tail.offset, 1);
      await bench.scheduler.sleep(10);
      write(NIC_TX.tail.offset, 2);
      await bench.scheduler.sleep(10);
      expect(answers).toHaveLength(2);
      answers[1]();
      await bench.scheduler.sleep(10);
    });
    expect(frames).toEqual([[5], [6]]);
  });

  it("stops when its ring is out of reach", () => {
    const { device, write } = setUp();
    write(NIC_TX.tail.offset, 1);
    expect(device.counters.errors).toBe(1);
    const control = new Uint8Array(4);
    device.readBar(0, 0, control);
    expect(control[0] & 1).toBe(0);
  });
});
