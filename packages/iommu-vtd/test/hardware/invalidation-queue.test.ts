import { describe, expect, it } from "vitest";
import { everything, qemu11Q35, type VtdPreset } from "../../src/presets.js";
import {
  CONTEXT_CACHE_INVALIDATE,
  DEVICE_TLB_INVALIDATE,
  INTERRUPT_ENTRY_CACHE_INVALIDATE,
  INVALIDATION_WAIT,
  IOTLB_INVALIDATE,
  PAGE_GROUP_RESPONSE,
  PASID_CACHE_INVALIDATE,
  PASID_DEVICE_TLB_INVALIDATE,
  PASID_IOTLB_INVALIDATE,
} from "../../src/spec/invalidation.js";
import { FE, FSTS, ICS, IE, IQA, IQER, IQT } from "../../src/spec/registers.js";
import { Bench, QUEUE, RID, STATUS, withEcap } from "./bench.js";

const SECOND = 1_000_000_000;
const wait = (data: number, over: object = {}) =>
  INVALIDATION_WAIT.encode({ TYPE: "wait", SW: true, SDATA: data, SADDR: STATUS, ...over });
const deviceTlb = (over: object = {}) =>
  DEVICE_TLB_INVALIDATE.encode({ TYPE: "deviceTlb", SID: RID, ADDR: 0x1000n, ...over });

function scalable(preset: VtdPreset = everything): Bench {
  const bench = new Bench(preset);
  bench.setRoot(1);
  bench.enableQueue(true);
  bench.command("TE");
  return bench;
}

const errors = (bench: Bench) => {
  const words = Int32Array.of(bench.chip.read32(IQER.offset), bench.chip.read32(IQER.offset + 4));
  return IQER.decode(words);
};

/** Lets the world run for that time. */
const pass = (bench: Bench, nanoseconds: number) => bench.scheduler.run(() => bench.scheduler.sleep(nanoseconds));

describe("invalidation queue", () => {
  it("takes descriptors of 128 bits in legacy mode (H12)", () => {
    const bench = new Bench(qemu11Q35);
    bench.enableQueue(false);
    bench.submit(
      CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "global" }),
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" }),
      wait(7),
    );
    expect([bench.head, bench.memory.load32(STATUS)]).toEqual([0x30, 7]);
  });

  it("takes descriptors of 256 bits in scalable mode and wraps around (H12)", () => {
    const bench = scalable();
    for (let n = 1; n <= 300; n++) {
      bench.submit(wait(n));
      expect(bench.memory.load32(STATUS)).toBe(n);
    }
    expect(bench.head).toBe((300 * 32) % 4096);
  });

  it("uses IQA.QS pages", () => {
    const bench = new Bench(qemu11Q35);
    bench.enableQueue(false, 1);
    for (let n = 1; n <= 600; n++) bench.submit(wait(n));
    expect([bench.head, bench.memory.load32(STATUS)]).toEqual([(600 * 16) % 8192, 600]);
  });

  it("works whether or not translation is on, and starts at 0 again after QIE = 0 (6.5.2)", () => {
    const bench = new Bench(qemu11Q35);
    bench.enableQueue(false);
    bench.submit(wait(1));
    bench.command("QIE", false);
    expect(bench.head).toBe(0);
    bench.enableQueue(false);
    bench.submit(wait(2));
    expect(bench.memory.load32(STATUS)).toBe(2);
  });

  it.each([
    ["an unknown type", 3, Int32Array.of(0xb, 0, 0, 0)],
    [
      "a type with bits 6:4 (TYPE_HI)",
      3,
      CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", TYPE_HI: 1, G: "global" }),
    ],
    ["an IOTLB invalidation with bits 6:4", 3, IOTLB_INVALIDATE.encode({ TYPE: "iotlb", TYPE_HI: 1, G: "global" })],
    ["a device-TLB invalidation with bits 6:4", 3, DEVICE_TLB_INVALIDATE.encode({ TYPE: "deviceTlb", TYPE_HI: 2 })],
    [
      "an interrupt entry cache invalidation with bits 6:4",
      3,
      INTERRUPT_ENTRY_CACHE_INVALIDATE.encode({ TYPE: "interruptEntryCache", TYPE_HI: 4 }),
    ],
    ["a wait descriptor with bits 6:4", 3, INVALIDATION_WAIT.encode({ TYPE: "wait", TYPE_HI: 1, SW: true })],
    [
      "a PASID-based IOTLB invalidation with bits 6:4",
      3,
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", TYPE_HI: 1, G: "pasid" }),
    ],
    [
      "a PASID-cache invalidation with bits 6:4",
      3,
      PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", TYPE_HI: 7, G: "global" }),
    ],
    [
      "a PASID-based device-TLB invalidation with bits 6:4",
      3,
      PASID_DEVICE_TLB_INVALIDATE.encode({ TYPE: "pasidDeviceTlb", TYPE_HI: 1 }),
    ],
    ["a page group response with bits 6:4", 3, PAGE_GROUP_RESPONSE.encode({ TYPE: "pageGroupResponse", TYPE_HI: 1 })],
    ["a reserved bit", 4, Int32Array.of(0x8011, 0, 0, 0)],
    ["a set bit in the upper half", 4, Int32Array.of(0x11, 0, 0, 0, 1)],
    ["granularity 0 of a context-cache invalidation", 4, CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache" })],
    ["granularity 0 of an IOTLB invalidation", 4, IOTLB_INVALIDATE.encode({ TYPE: "iotlb" })],
    [
      "granularity 1 of a PASID-based IOTLB invalidation",
      4,
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: 1 }),
    ],
    ["granularity 2 of a PASID-cache invalidation", 4, PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: 2 })],
    ["an address mask above MAMV", 4, IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", AM: 46 })],
    [
      "an index mask above MHMV",
      4,
      INTERRUPT_ENTRY_CACHE_INVALIDATE.encode({ TYPE: "interruptEntryCache", G: "index", IM: 16 }),
    ],
  ])("stops at %s: IQE, head at the descriptor (H15)", (_, info, descriptor) => {
    const bench = scalable();
    bench.submit(wait(1), descriptor, wait(2));
    expect(bench.status).toMatchObject({ IQE: true });
    expect([errors(bench).IQEI, bench.head, bench.memory.load32(STATUS)]).toEqual([IQER.IQEI.nameOf(info), 0x20, 1]);
    // A new tail fetches nothing; clearing IQE goes on from the head (6.5.2.11).
    bench.submit(wait(3));
    expect(bench.head).toBe(0x20);
    bench.memory.fill(QUEUE + 0x20, 32, 0);
    wait(4).forEach((word, i) => void bench.memory.store32(QUEUE + 0x20 + i * 4, word));
    bench.chip.write32(FSTS.offset, FSTS.IQE.lowMask);
    expect([bench.status.IQE, bench.head, bench.memory.load32(STATUS)]).toEqual([false, 0x80, 3]);
  });

  it("knows scalable-mode descriptors in scalable mode only, and page responses only with PRS (table 26)", () => {
    for (const descriptor of [
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "pasid" }),
      PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "global" }),
      PASID_DEVICE_TLB_INVALIDATE.encode({ TYPE: "pasidDeviceTlb" }),
      PAGE_GROUP_RESPONSE.encode({ TYPE: "pageGroupResponse" }),
    ]) {
      const legacy = new Bench(everything);
      legacy.enableQueue(true);
      legacy.submit(descriptor);
      expect(errors(legacy).IQEI).toBe("invalidType");
    }
    const plain = scalable(withEcap(everything, { PRS: 0, DT: 0 }));
    plain.submit(PAGE_GROUP_RESPONSE.encode({ TYPE: "pageGroupResponse" }));
    expect(errors(plain).IQEI).toBe("invalidType");
    const noDevices = scalable(withEcap(everything, { DT: 0 }));
    noDevices.submit(deviceTlb());
    expect(errors(noDevices).IQEI).toBe("invalidType");
  });

  it("checks width, alignment and range of the tail, and that memory is there (11.4.9.9)", () => {
    const narrow = new Bench(everything);
    narrow.setRoot(1);
    narrow.enableQueue(false);
    narrow.submit(wait(1));
    expect(errors(narrow).IQEI).toBe("invalidWidth");
    const wide = new Bench(qemu11Q35);
    wide.enableQueue(true);
    wide.submit(wait(1));
    expect(errors(wide).IQEI).toBe("invalidWidth");
    const odd = scalable();
    odd.chip.write64(IQT.offset, 0x30n);
    expect(errors(odd).IQEI).toBe("tailAlignment");
    const far = scalable();
    far.chip.write64(IQT.offset, 0x1000n);
    expect(errors(far).IQEI).toBe("tailOutOfRange");
    const nowhere = scalable();
    nowhere.set(IQA, { IQA: 0x7_0000_0000, DW: 1 });
    nowhere.chip.write64(IQT.offset, 0x20n);
    expect(errors(nowhere).IQEI).toBe("fetchFailed");
    const reserved = new Bench(everything);
    reserved.setRoot(2);
    reserved.enableQueue(true);
    reserved.submit(wait(1));
    expect(errors(reserved).IQEI).toBe("invalidTtm");
  });

  it.each([
    ["10b", 2, everything],
    ["01b without ECAP.SMTS", 1, withEcap(everything, { SMTS: 0 })],
    ["11b without ECAP.ADMS", 3, withEcap(everything, { ADMS: 0 })],
  ])("has no descriptors in mode %s: TTM is invalid, whatever their width (RTA.1, 11.4.9.9)", (_, ttm, preset) => {
    for (const wide of [false, true]) {
      const bench = new Bench(preset);
      bench.setRoot(ttm);
      bench.enableQueue(wide);
      bench.submit(wait(1));
      expect([errors(bench).IQEI, bench.head]).toEqual(["invalidTtm", 0]);
    }
  });

  it("has the descriptors of scalable mode in abort-dma mode, of 256 bits only (table 26)", () => {
    const bench = new Bench(everything);
    bench.setRoot(3);
    bench.enableQueue(true);
    bench.submit(PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "global" }), wait(1));
    expect(bench.memory.load32(STATUS)).toBe(1);
    const narrow = new Bench(everything);
    narrow.setRoot(3);
    narrow.enableQueue(false);
    narrow.submit(wait(1));
    expect(errors(narrow).IQEI).toBe("invalidWidth");
  });

  it("says on the trace what it consumed and refused", () => {
    const bench = scalable();
    const events = bench.traced(() => bench.submit(wait(1), Int32Array.of(0xb, 0, 0, 0)));
    expect(events.map((event) => (event.name === "command:consumed" ? event.command : event.name))).toContain(
      "inv_wait_dsc",
    );
    expect(events.find(({ name }) => name === "command:refused")).toMatchObject({ reason: "IQEI invalidType" });
  });
});

describe("inv_wait_dsc", () => {
  it("interrupts with IF, once until software clears ICS.IWC (6.5.2.10)", () => {
    const bench = scalable();
    bench.set(IE.CTL, { IM: false });
    bench.set(IE.ADDR, { MA: 0xfee0_0000 });
    bench.set(IE.UADDR, { MUA: 3 });
    bench.set(IE.DATA, { IMD: 0x41 });
    bench.submit(wait(1, { IF: true }), wait(2, { IF: true }));
    expect([bench.messages, bench.get(ICS).IWC]).toEqual([[{ address: 0x3_fee0_0000, data: 0x41 }], true]);
    bench.chip.write32(ICS.offset, 1);
    bench.submit(wait(3, { IF: true, SW: false }));
    expect([bench.messages.length, bench.memory.load32(STATUS)]).toEqual([2, 2]);
  });

  it("holds a masked interrupt pending, and forgets it when IWC is cleared", () => {
    const bench = scalable();
    bench.submit(wait(1, { IF: true }));
    expect([bench.messages.length, bench.get(IE.CTL)]).toEqual([0, { IM: true, IP: true }]);
    bench.set(IE.CTL, { IM: false });
    expect([bench.messages.length, bench.get(IE.CTL)]).toEqual([1, { IM: false, IP: false }]);
    bench.chip.write32(ICS.offset, 1);
    bench.chip.write32(IE.CTL.offset, 0x8000_0000);
    bench.submit(wait(2, { IF: true }));
    bench.chip.write32(ICS.offset, 1);
    bench.chip.write32(IE.CTL.offset, 0);
    expect(bench.messages.length).toBe(1);
  });

  it("ignores bits of the status address above the host's width (6.5.2.9)", () => {
    const bench = scalable();
    bench.submit(wait(9, { SADDR: BigInt(STATUS) | (0xfffn << 52n) }));
    expect([bench.status.IQE, bench.memory.load32(STATUS)]).toEqual([false, 9]);
  });

  it("knows PD only with page-request drain (H13)", () => {
    const drained = scalable();
    drained.submit(wait(1, { PD: true }));
    expect(drained.memory.load32(STATUS)).toBe(1);
    const plain = scalable(withEcap(everything, { PDS: 0 }));
    plain.submit(wait(1, { PD: true }));
    expect(errors(plain).IQEI).toBe("reserved");
  });
});

describe("device-TLB invalidation", () => {
  it("sends the range that the address encodes (H14)", () => {
    const bench = scalable();
    bench.submit(
      deviceTlb({ ADDR: 0x1234_5000n }),
      deviceTlb({ S: true, ADDR: 0x1234_4000n }),
      deviceTlb({ S: true, ADDR: 0x1220_0000n | 0xf_f000n }),
      deviceTlb({ S: true, ADDR: 0x7fff_ffff_ffff_f000n }),
      PASID_DEVICE_TLB_INVALIDATE.encode({
        TYPE: "pasidDeviceTlb",
        SID: RID,
        PASID: 9,
        S: true,
        G: true,
        ADDR: 0x7fff_ffff_ffff_f000n,
      }),
    );
    expect(bench.invalidations.map(({ hi, lo, shift, pasid, global }) => [hi, lo, shift, pasid, global])).toEqual([
      [0, 0x1234_5000, 12, -1, false],
      [0, 0x1234_4000, 13, -1, false],
      [0, 0x1220_0000, 21, -1, false],
      [0, 0, 64, -1, false],
      [0, 0, 64, 9, true],
    ]);
  });

  it("holds a wait descriptor until the device has answered (6.5.2.12)", () => {
    const bench = scalable();
    bench.answers = false;
    bench.submit(
      deviceTlb(),
      deviceTlb(),
      wait(1),
      CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "global" }),
    );
    expect([bench.head, bench.memory.load32(STATUS)]).toEqual([0x60, 0]);
    bench.chip.invalidateCompletion({ rid: RID, itagVector: 1, count: 1 });
    expect(bench.memory.load32(STATUS)).toBe(0);
    bench.chip.invalidateCompletion({ rid: RID, itagVector: 2, count: 1 });
    expect([bench.head, bench.memory.load32(STATUS)]).toEqual([0x80, 1]);
  });

  it("counts completions (4.3)", () => {
    const bench = scalable();
    bench.answers = false;
    bench.submit(deviceTlb(), wait(1));
    for (let n = 0; n < 8; n++) {
      expect(bench.memory.load32(STATUS)).toBe(0);
      bench.chip.invalidateCompletion({ rid: RID, itagVector: 1, count: 0 });
    }
    expect(bench.memory.load32(STATUS)).toBe(1);
  });

  it("takes no completion while translation is off: an Unsupported Request (4.2.1)", async () => {
    const bench = scalable();
    bench.answers = false;
    bench.submit(deviceTlb(), wait(1));
    bench.command("TE", false);
    bench.chip.invalidateCompletion({ rid: RID, itagVector: 1, count: 1 });
    expect([bench.memory.load32(STATUS), bench.status.ICE]).toEqual([0, false]);
    await pass(bench, 61 * SECOND);
    expect([bench.memory.load32(STATUS), bench.status.ITE]).toEqual([0, true]);
  });

  it("waits for a free tag when 32 are under way", () => {
    const bench = scalable();
    bench.answers = false;
    bench.submit(...Array.from({ length: 33 }, () => deviceTlb()));
    expect([bench.invalidations.length, bench.head]).toEqual([32, 32 * 32]);
    bench.chip.invalidateCompletion({ rid: RID, itagVector: 1 << 5, count: 1 });
    expect([bench.invalidations.length, bench.invalidations[32].itag, bench.head]).toEqual([33, 5, 33 * 32]);
  });

  it("reports a completion that nothing waits for: ICE, and the queue goes on", () => {
    const bench = scalable();
    bench.chip.invalidateCompletion({ rid: 0x42, itagVector: 1, count: 1 });
    expect([bench.status.ICE, errors(bench).ICESID]).toEqual([true, 0x42]);
    bench.submit(wait(1));
    expect(bench.memory.load32(STATUS)).toBe(1);
    bench.answers = false;
    bench.submit(deviceTlb());
    bench.chip.write32(FSTS.offset, FSTS.ICE.lowMask);
    bench.chip.invalidateCompletion({ rid: RID ^ 1, itagVector: 1, count: 1 });
    expect(errors(bench).ICESID).toBe(RID ^ 1);
  });

  it("times out: ITE, the pending wait is aborted, the queue stops until it is cleared (H15, I13, E18)", async () => {
    const bench = scalable();
    bench.chip.write32(FE.CTL.offset, 0);
    bench.present = false;
    bench.submit(deviceTlb(), wait(1, { SADDR: STATUS + 8 }), wait(2));
    await pass(bench, 59 * SECOND);
    expect(bench.status.ITE).toBe(false);
    await pass(bench, 2 * SECOND);
    expect([bench.status.ITE, errors(bench).ITESID, bench.head, bench.wires]).toEqual([true, RID, 0x40, ["fault"]]);
    bench.submit(wait(3));
    expect(bench.memory.load32(STATUS)).toBe(0);
    bench.chip.write32(FSTS.offset, FSTS.ITE.lowMask);
    expect([bench.memory.load32(STATUS), bench.head]).toEqual([3, 0x80]);
    // Aborted: nobody answers it any more.
    expect(bench.memory.load32(STATUS + 8)).toBe(0);
  });

  it("names the source-id of the first time-out until software clears ITE (11.4.9.9)", async () => {
    const bench = scalable();
    bench.present = false;
    bench.submit(deviceTlb());
    await pass(bench, SECOND);
    bench.submit(deviceTlb({ SID: RID ^ 1 }));
    await pass(bench, 70 * SECOND);
    expect([bench.status.ITE, errors(bench).ITESID]).toEqual([true, RID]);
  });

  it("is nothing that a wait of before QIE = 0 is answered for (6.5.2)", () => {
    const bench = scalable();
    bench.answers = false;
    bench.submit(deviceTlb(), wait(1));
    bench.command("QIE", false);
    bench.enableQueue(true);
    bench.chip.invalidateCompletion({ rid: RID, itagVector: 1, count: 1 });
    expect([bench.memory.load32(STATUS), bench.head]).toEqual([0, 0]);
  });
});
