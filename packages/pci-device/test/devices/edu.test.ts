import { Access, findCapability, NO_PASID } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { Edu } from "../../src/devices/edu.js";
import { Bench, RAM } from "../support/bench.js";

const RW = Access.READ | Access.WRITE;
const MS = 1_000_000;

function setUp() {
  const bench = new Bench();
  const device = new Edu({ bdf: "0000:00:05.0" }, bench.ports());
  device.writeConfig(4, 2, 6);
  const read = (offset: number, width = 4) => {
    const bytes = new Uint8Array(width);
    device.readBar(0, offset, bytes);
    return bytes.reduceRight((high, byte) => high * 256 + byte, 0);
  };
  const write = (offset: number, value: number | bigint, width = 4) => {
    const bytes = new Uint8Array(width);
    for (let i = 0; i < width; i++) bytes[i] = Number((BigInt(value) >> BigInt(8 * i)) & 0xffn);
    device.writeBar(0, offset, bytes);
  };
  const dma = async (source: bigint, destination: bigint, count: number, command: number) => {
    write(0x80, source, 8);
    write(0x88, destination, 8);
    write(0x90, count, 8);
    write(0x98, command);
    while (read(0x98) & 1) await bench.scheduler.sleep(MS);
  };
  /** Memory to buffer, buffer to memory. */
  const load = (iova: bigint, count: number, at = 0) => dma(iova, 0x40000n + BigInt(at), count, 1);
  const store = (iova: bigint, count: number, at = 0) => dma(0x40000n + BigInt(at), iova, count, 3);
  return { bench, device, read, write, dma, load, store };
}

describe("edu (docs/specs/edu.rst of QEMU)", () => {
  it("has the header that Linux sees under QEMU", () => {
    const { device } = setUp();
    device.writeConfig(4, 2, 0x103);
    device.writeConfig(0x10, 4, 0xfe70_0000);
    device.writeConfig(0x3c, 1, 0x0a);
    // 64 bytes that a kernel recorded through VFIO (device.A, pread of region 7).
    const recorded =
      "3412e811030110001000ff0000000000000070fe000000000000000000000000000000000000000000000000f41a00110000000040000000000000000a010000";
    const header = Array.from({ length: 64 }, (_, at) => device.readConfig(at, 1).toString(16).padStart(2, "0")).join(
      "",
    );
    expect(header).toBe(recorded);
    expect(device.configSize).toBe(256);
    expect(findCapability(device, 5)).toBe(0x40);
  });

  it("identifies itself, inverts the liveness register, and gives all ones elsewhere", () => {
    const { read, write } = setUp();
    expect(read(0)).toBe(0x010000ed);
    write(4, 0x12345678);
    expect(read(4)).toBe(0xedcba987);
    expect(read(0x0c)).toBe(0xffff_ffff);
    expect(read(0, 2)).toBe(0xffff);
  });

  it("computes factorials modulo 2^32 in its own time", async () => {
    const { bench, read, write } = setUp();
    write(8, 10);
    expect(read(0x20) & 1).toBe(1);
    await bench.run(() => bench.scheduler.sleep(MS));
    expect([read(0x20) & 1, read(8)]).toEqual([0, 3628800]);
  });

  it("moves data 100 ms after it was told to", async () => {
    const { bench, load, store } = setUp();
    bench.iommu.map(NO_PASID, 0x8000n, { pa: RAM, perms: RW });
    bench.memory.writeBytes(RAM, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    await bench.run(async () => {
      await load(0x8000n, 8, 16);
      expect(bench.scheduler.now).toBeGreaterThanOrEqual(100 * MS);
      await store(0x8100n, 8, 16);
    });
    expect([...bench.bytes(RAM + 0x100, 8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it("ignores its DMA registers while a DMA runs", async () => {
    const { bench, read, write } = setUp();
    write(0x80, 0x1234, 8);
    write(0x98, 1);
    write(0x80, 0x5678, 8);
    expect(read(0x80)).toBe(0x1234);
    await bench.run(() => bench.scheduler.sleep(200 * MS));
    write(0x80, 0x5678, 8);
    expect(read(0x80)).toBe(0x5678);
  });

  it("writes what is mapped and loses the rest, page by page", async () => {
    const { bench, load, store } = setUp();
    bench.iommu.map(NO_PASID, 0x8000n, { pa: RAM, perms: RW });
    bench.iommu.map(NO_PASID, 0x13_0000n, { pa: RAM + 0x1000, perms: RW });
    bench.memory.writeBytes(RAM, new Uint8Array(256).fill(0xab));
    await bench.run(async () => {
      await load(0x8000n, 256);
      await store(0x13_0f80n, 256);
    });
    expect([...bench.bytes(RAM + 0x1f80, 128)]).toEqual(new Array(128).fill(0xab));
    expect([...bench.bytes(RAM + 0x2000, 16)]).toEqual(new Array(16).fill(0));
  });

  it("reads zeros where nothing is mapped, 4 bytes at a time", async () => {
    const { bench, load, store } = setUp();
    bench.iommu.map(NO_PASID, 0x8000n, { pa: RAM, perms: RW });
    bench.memory.writeBytes(RAM, new Uint8Array(4096).fill(0xab));
    await bench.run(async () => {
      await load(0x8000n, 64);
      const before = bench.iommu.translations.length;
      await load(0x30_0004n, 8);
      expect(bench.iommu.translations.length - before).toBe(2);
      await load(0x30_0001n, 7, 32);
      expect(bench.iommu.translations.length - before).toBe(5);
      await store(0x8800n, 64);
    });
    expect([...bench.bytes(RAM + 0x800, 9)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0xab]);
    expect([...bench.bytes(RAM + 0x820, 8)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0xab]);
  });

  it("finishes a DMA that the IOMMU stalled", async () => {
    const { bench, device, load, store } = setUp();
    bench.iommu.map(NO_PASID, 0x8000n, { pa: RAM, perms: RW });
    bench.memory.writeBytes(RAM, new Uint8Array(64).fill(0xcd));
    bench.iommu.stalls = true;
    await bench.run(async () => {
      await load(0x8000n, 64);
      bench.scheduler.timer(150 * MS, () => {
        bench.iommu.map(NO_PASID, 0x9000n, { pa: RAM + 0x1000, perms: RW });
        device.stallResolved(1, "retry");
      });
      await store(0x9000n, 64);
    });
    expect([...bench.bytes(RAM + 0x1000, 2)]).toEqual([0xcd, 0xcd]);
  });

  it("raises and acknowledges interrupts on its pin, and by MSI when that is enabled", () => {
    const { bench, device, read, write } = setUp();
    const levels: boolean[] = [];
    device.onIntx((asserted) => levels.push(asserted));
    write(0x60, 5);
    expect(read(0x24)).toBe(5);
    write(0x64, 5);
    expect(levels).toEqual([true, false]);
    bench.iommu.map(NO_PASID, 0xfee0_0000n, { pa: 0xfee0_0000, perms: Access.WRITE });
    const msi = findCapability(device, 5);
    device.writeConfig(msi + 4, 4, 0xfee0_0000);
    device.writeConfig(msi + 12, 2, 0x4021);
    device.writeConfig(msi + 2, 2, 1);
    write(0x60, 1);
    expect(bench.messages).toEqual([{ address: 0xfee0_0000, data: 0x4021 }]);
    expect(bench.iommu.translations.at(-1)).toMatchObject({ access: Access.WRITE | Access.MSI });
  });

  it("lets go of its pin while MSI is enabled (PCIe 6.1.4.3)", () => {
    const { device, write } = setUp();
    const levels: boolean[] = [];
    device.onIntx((asserted) => levels.push(asserted));
    write(0x60, 5);
    const msi = findCapability(device, 5);
    device.writeConfig(msi + 2, 2, 1);
    device.writeConfig(msi + 2, 2, 0);
    expect(levels).toEqual([true, false, true]);
  });

  it("needs Bus Master Enable", async () => {
    const { bench, device, load } = setUp();
    device.writeConfig(4, 2, 2);
    await bench.run(() => load(0x8000n, 8));
    expect(bench.iommu.translations).toEqual([]);
  });
});
