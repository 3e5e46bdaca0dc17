import { Access, NO_PASID, TranslationStatus } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { everything, qemu11Q35, sapphireRapidsLike } from "../../src/presets.js";
import { CONTEXT_CACHE_INVALIDATE, IOTLB_INVALIDATE, PASID_CACHE_INVALIDATE } from "../../src/spec/invalidation.js";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY } from "../../src/spec/pasid-table.js";
import { RTADDR } from "../../src/spec/registers.js";
import { CONTEXT_ENTRY, ROOT_ENTRY, SM_CONTEXT_ENTRY, SM_ROOT_ENTRY } from "../../src/spec/root-context.js";
import { Bench, CONTEXTS, DIRECTORY, PASIDS, RAM, RID, ROOT, withCap, withEcap } from "./bench.js";

const { READ, EXEC, PRIV } = Access;
const PAGE = 0x4000n;
const NOWHERE = 0x7_0000_0000;

/** Faults with that reason, in records and in the answer. */
function expectFault(bench: Bench, reason: number, pasid = NO_PASID, access: number = READ): void {
  const status = bench.translate(PAGE, access, pasid);
  expect([status, bench.takeReason()]).toEqual([TranslationStatus.FAULT, reason]);
}

describe("legacy root and context entries", () => {
  let bench: Bench;
  beforeEach(() => {
    bench = new Bench(qemu11Q35);
    bench.legacy({ TT: "passThrough" });
  });
  const root = (values: object) => bench.put(ROOT + 16, ROOT_ENTRY, { P: 1, CTP: CONTEXTS, ...values });
  const context = (values: object) =>
    bench.put(bench.contextAddress(false), CONTEXT_ENTRY, { P: 1, AW: 2, DID: 7, TT: "passThrough", ...values });

  it("let a request through when they are right", () => {
    expect(bench.translate(PAGE, READ)).toBe(TranslationStatus.OK);
    expect(bench.pa).toBe(Number(PAGE));
  });

  it("fault when the root table is nowhere (LRT.1)", () => {
    bench.setRoot(0, NOWHERE);
    expectFault(bench, 0x08);
  });

  it("fault when the root entry is not present, or has reserved bits (LRT.2, LRT.3)", () => {
    root({ P: 0 });
    expectFault(bench, 0x01);
    bench.store(ROOT + 16, BigInt(CONTEXTS) | 3n);
    expectFault(bench, 0x0a);
    bench.store(ROOT + 16, BigInt(CONTEXTS) | 1n | (1n << 48n));
    expectFault(bench, 0x0a);
    root({});
    bench.store(ROOT + 24, 1n);
    expectFault(bench, 0x0a);
  });

  it("fault when the context table is nowhere (LCT.1)", () => {
    root({ CTP: NOWHERE });
    expectFault(bench, 0x09);
  });

  it("fault when the context entry is not present, or has reserved bits (LCT.2, LCT.3)", () => {
    context({ P: 0 });
    expectFault(bench, 0x02);
    const at = bench.contextAddress(false);
    context({});
    bench.store(at, bench.load(at) | 0x10n);
    expectFault(bench, 0x0b);
    context({});
    bench.store(at + 8, bench.load(at + 8) | 0x80n);
    expectFault(bench, 0x0b);
  });

  it("fault on a width or a type that the unit does not have (LCT.4.1, LCT.4.2)", () => {
    for (const values of [{ AW: 0 }, { AW: 3 }, { AW: 4 }, { TT: 1 }, { TT: 3 }]) {
      context(values);
      expectFault(bench, 0x03);
    }
  });

  it("check address bits above the host's width only where the pointer is used (9.3)", () => {
    context({ SSPTPTR: 1n << 50n });
    expect(bench.translate(PAGE, READ)).toBe(TranslationStatus.OK);
    bench.invalidateEverything();
    context({ TT: 0, SSPTPTR: 1n << 50n });
    expectFault(bench, 0x0b);
  });

  it("refuse requests with PASID (RTA.2)", () => {
    expectFault(bench, 0x31, 5);
  });
});

describe("scalable-mode entries", () => {
  let bench: Bench;
  beforeEach(() => {
    bench = new Bench(everything);
    bench.scalable({ 0: { PGTT: "passThrough" }, 5: { PGTT: "passThrough", SRE: 1, ERE: 1 } });
  });
  const context = (values: object) =>
    bench.put(bench.contextAddress(true), SM_CONTEXT_ENTRY, {
      P: 1,
      DTE: 1,
      PASIDE: 1,
      PRE: 1,
      PASIDDIRPTR: DIRECTORY,
      ...values,
    });
  const pasid = (values: object) =>
    bench.put(PASIDS + 5 * 64, PASID_ENTRY, { P: 1, PWSNP: 1, DID: 1, PGTT: "passThrough", ...values });

  it("let requests with and without PASID through when they are right", () => {
    expect(bench.translate(PAGE, READ)).toBe(TranslationStatus.OK);
    expect(bench.translate(PAGE, READ, 5)).toBe(TranslationStatus.OK);
  });

  it("use the upper context table for devfn from 0x80 up (H5)", () => {
    const rid = RID | 0x80;
    const upper = RAM + 0x20_0000;
    bench.put(ROOT + 16, SM_ROOT_ENTRY, { LP: 1, LCTP: CONTEXTS, UP: 1, UCTP: upper });
    bench.put(upper + (rid & 0x7f) * 32, SM_CONTEXT_ENTRY, { P: 1, PASIDDIRPTR: DIRECTORY });
    expect(bench.translate(PAGE, READ, NO_PASID, rid)).toBe(TranslationStatus.OK);
    bench.put(ROOT + 16, SM_ROOT_ENTRY, { LP: 1, LCTP: CONTEXTS, UP: 0 });
    expect(bench.translate(PAGE, READ, NO_PASID, rid ^ 1)).toBe(TranslationStatus.FAULT);
    expect(bench.takeReason()).toBe(0x39);
  });

  it("fault on the root (SRT.1 to SRT.3)", () => {
    bench.setRoot(1, NOWHERE);
    expectFault(bench, 0x38);
    bench.setRoot(1);
    bench.put(ROOT + 16, SM_ROOT_ENTRY, { LP: 0, UP: 1, UCTP: CONTEXTS });
    expectFault(bench, 0x39);
    bench.store(ROOT + 16, BigInt(CONTEXTS) | 5n);
    expectFault(bench, 0x3a);
  });

  it("fault on the context entry (SCT.1 to SCT.4)", () => {
    bench.put(ROOT + 16, SM_ROOT_ENTRY, { LP: 1, LCTP: NOWHERE });
    expectFault(bench, 0x40);
    bench.put(ROOT + 16, SM_ROOT_ENTRY, { LP: 1, LCTP: CONTEXTS });
    context({ P: 0 });
    expectFault(bench, 0x41);
    context({});
    bench.store(bench.contextAddress(true) + 24, 1n);
    expectFault(bench, 0x42);
    context({ DTE: 0, PRE: 1 });
    expectFault(bench, 0x43);
    context({ RID_PASID: 1 << 13 });
    expectFault(bench, 0x43);
  });

  it("fault on the PASID of a request (SCT.6, SCT.7, SCT.9)", () => {
    context({ PASIDE: 0 });
    expectFault(bench, 0x45, 5);
    bench.submit(CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "global" }));
    context({});
    expectFault(bench, 0x46, 1 << 13);
    expectFault(bench, 0x48, 0);
  });

  it("fault on a PASID wider than the unit's (SGN.10)", () => {
    const narrow = new Bench(withEcap(everything, { PSS: 7 }));
    narrow.scalable({});
    expectFault(narrow, 0x89, 0x100);
  });

  it("use RID_PASID for requests without PASID (H7)", () => {
    context({ RID_PASID: 5 });
    bench.put(PASIDS, PASID_ENTRY, { P: 0 });
    expect(bench.translate(PAGE, READ)).toBe(TranslationStatus.OK);
  });

  it("fault on the directory (SPD.1 to SPD.3)", () => {
    context({ PASIDDIRPTR: NOWHERE });
    expectFault(bench, 0x50, 5);
    bench.submit(CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "global" }));
    context({});
    bench.put(DIRECTORY, PASID_DIRECTORY_ENTRY, { P: 0 });
    expectFault(bench, 0x51, 5);
    bench.store(DIRECTORY, BigInt(PASIDS) | 5n);
    expectFault(bench, 0x52, 5);
  });

  it("reach directories of more than a page: PDTS 7, PASID 0xfffff (H7)", () => {
    const directory = RAM + 0x40_0000;
    context({ PDTS: 7, PASIDDIRPTR: directory });
    bench.put(directory + (0xfffff >> 6) * 8, PASID_DIRECTORY_ENTRY, { P: 1, SMPTBLPTR: PASIDS });
    bench.put(PASIDS + 63 * 64, PASID_ENTRY, { P: 1, PGTT: "passThrough" });
    expect(bench.translate(PAGE, READ, 0xfffff)).toBe(TranslationStatus.OK);
  });

  it("fault on the PASID table entry (SPT.1 to SPT.4)", () => {
    bench.put(DIRECTORY, PASID_DIRECTORY_ENTRY, { P: 1, SMPTBLPTR: NOWHERE });
    expectFault(bench, 0x58, 5);
    bench.put(DIRECTORY, PASID_DIRECTORY_ENTRY, { P: 1, SMPTBLPTR: PASIDS });
    pasid({ P: 0 });
    expectFault(bench, 0x59, 5);
    pasid({});
    bench.store(PASIDS + 5 * 64 + 56, 1n);
    expectFault(bench, 0x5a, 5);
    for (const values of [
      { PGTT: 0 },
      { PGTT: 5 },
      { PGTT: "secondStage", AW: 0 },
      { PGTT: "firstStage", FSPM: 2 },
      { PGTT: "nested", AW: 1, FSPTPTR: 1n << 40n },
    ]) {
      pasid(values);
      expectFault(bench, 0x5b, 5);
    }
  });

  it("treat fields of missing features as reserved (9.4, 9.6)", () => {
    const plain = new Bench(withEcap(everything, { SRS: 0, EAFS: 0, SSADS: 0, RPRIVS: 0, ERS: 0 }));
    plain.scalable({ 5: { PGTT: "passThrough" } });
    for (const values of [{ SRE: 1 }, { EAFE: 1 }, { SSADE: 1 }, { ERE: 1 }, { CD: 1 }, { PAT: 1 }]) {
      plain.put(PASIDS + 5 * 64, PASID_ENTRY, { P: 1, PGTT: "passThrough", ...values });
      expectFault(plain, 0x5a, 5);
    }
    const oneStage = new Bench(withEcap(everything, { SSTS: 0, NEST: 0 }));
    oneStage.scalable({ 5: { PGTT: "passThrough" } });
    for (const values of [{ SSADE: 1 }, { AW: 2 }, { SSPTPTR: 0x1000n }]) {
      oneStage.put(PASIDS + 5 * 64, PASID_ENTRY, { P: 1, PGTT: "passThrough", ...values });
      expectFault(oneStage, 0x5a, 5);
    }
  });

  it("fault on a privilege or an execution that the entry does not enable (SPT.5, SPT.6)", () => {
    pasid({});
    expectFault(bench, 0x5c, 5, READ | EXEC);
    expectFault(bench, 0x5d, 5, READ | PRIV);
    bench.submit(
      PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "global" }),
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" }),
    );
    pasid({ SRE: 1, ERE: 1 });
    expect(bench.translate(PAGE, READ | EXEC | PRIV, 5)).toBe(TranslationStatus.OK);
  });

  it("take a request without PASID that asks for execution as a read (9.4)", () => {
    expect(bench.translate(PAGE, EXEC)).toBe(TranslationStatus.OK);
    bench.put(PASIDS, PASID_ENTRY, { P: 0 });
    bench.submit(
      PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "global" }),
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" }),
    );
    bench.translate(PAGE, EXEC);
    expect(bench.fault()).toMatchObject({ FR: 0x59, T1: true, T2: false, EXE: false });
  });

  it("give requests without PASID the privilege of RID_PRIV, from memory and from the IOTLB", () => {
    context({ RID_PASID: 6, RID_PRIV: 1 });
    bench.put(PASIDS + 6 * 64, PASID_ENTRY, { P: 1, PGTT: "passThrough" });
    expectFault(bench, 0x5d);
    bench.put(PASIDS + 6 * 64, PASID_ENTRY, { P: 1, PGTT: "passThrough", SRE: 1 });
    bench.submit(PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "global" }));
    expect([bench.translate(PAGE, READ), bench.translate(PAGE, READ)]).toEqual([
      TranslationStatus.OK,
      TranslationStatus.OK,
    ]);
  });
});

describe("RTADDR.TTM", () => {
  it("blocks everything in abort-dma mode, which ECAP.ADMS offers (RTA.4)", () => {
    for (const [ADMS, reason] of [
      [1, 0x33],
      [0, 0x30],
    ]) {
      const bench = new Bench(withEcap(everything, { ADMS }));
      bench.set(RTADDR, { TTM: "abort", RTA: NOWHERE });
      bench.command("SRTP");
      bench.command("TE");
      expectFault(bench, reason);
    }
  });

  it("is invalid where the unit does not have the mode (RTA.1)", () => {
    for (const ttm of [1, 2, 3]) {
      const bench = new Bench(qemu11Q35);
      bench.setRoot(ttm);
      bench.command("TE");
      expectFault(bench, 0x30);
    }
    const modern = new Bench(sapphireRapidsLike);
    modern.setRoot(2);
    modern.command("TE");
    expectFault(modern, 0x30);
  });

  it("takes effect with Set Root Table Pointer only (11.4.5)", () => {
    const bench = new Bench(everything);
    bench.scalable({ 5: { PGTT: "passThrough" } });
    bench.chip.write64(0x20, 0n);
    expect(bench.translate(PAGE, READ, 5)).toBe(TranslationStatus.OK);
  });
});

describe("context cache and PASID cache", () => {
  it("keep an entry until its invalidation (6.2.2, 6.2.3)", () => {
    const bench = new Bench(everything);
    bench.scalable({ 5: { PGTT: "passThrough", DID: 3 } });
    const flushIotlb = IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" });
    bench.translate(PAGE, READ, 5);
    bench.put(PASIDS + 5 * 64, PASID_ENTRY, { P: 0 });
    bench.submit(flushIotlb);
    expect(bench.translate(PAGE, READ, 5)).toBe(TranslationStatus.OK);
    bench.submit(PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "pasid", DID: 3, PASID: 6 }), flushIotlb);
    expect(bench.translate(PAGE, READ, 5)).toBe(TranslationStatus.OK);
    bench.submit(PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "pasid", DID: 3, PASID: 5 }), flushIotlb);
    expectFault(bench, 0x59, 5);

    bench.put(bench.contextAddress(true), SM_CONTEXT_ENTRY, { P: 0 });
    expectFault(bench, 0x59, 5);
    bench.submit(CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "device", SID: RID ^ 8 }));
    expectFault(bench, 0x59, 5);
    bench.submit(CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "device", SID: RID ^ 1, FM: 3 }));
    expectFault(bench, 0x41, 5);
  });

  it("invalidate every context entry by domain in scalable mode, where entries have none (6.5.2.1)", () => {
    const bench = new Bench(everything);
    bench.scalable({ 5: { PGTT: "passThrough", DID: 3 } });
    expect(bench.translate(PAGE, READ, 5)).toBe(TranslationStatus.OK);
    bench.put(bench.contextAddress(true), SM_CONTEXT_ENTRY, { P: 0 });
    bench.submit(
      CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "domain", DID: 9 }),
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" }),
    );
    expectFault(bench, 0x41, 5);
  });

  it("invalidate context entries by domain in legacy mode (6.5.1.1)", () => {
    const bench = new Bench(qemu11Q35);
    bench.legacy({ TT: "passThrough", DID: 9 });
    bench.translate(PAGE, READ);
    bench.put(bench.contextAddress(false), CONTEXT_ENTRY, { P: 0 });
    bench.enableQueue(false);
    const flush = IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" });
    bench.submit(CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "domain", DID: 8 }), flush);
    expect(bench.translate(PAGE, READ)).toBe(TranslationStatus.OK);
    bench.submit(CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "domain", DID: 9 }), flush);
    expectFault(bench, 0x02);
  });

  it("keep not-present entries with caching mode, under domain 0 (H25, 6.2.2)", () => {
    const bench = new Bench(withCap(qemu11Q35, { CM: 1 }));
    bench.legacy({ P: 0, AW: 2 });
    bench.enableQueue(false);
    expectFault(bench, 0x02);
    bench.put(bench.contextAddress(false), CONTEXT_ENTRY, { P: 1, AW: 2, DID: 7, TT: "passThrough" });
    expectFault(bench, 0x02);
    bench.submit(CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "domain", DID: 7 }));
    expectFault(bench, 0x02);
    bench.submit(CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "domain", DID: 0 }));
    expect(bench.translate(PAGE, READ)).toBe(TranslationStatus.OK);
  });

  it("say on the trace what they did", () => {
    const bench = new Bench(everything);
    bench.scalable({ 5: { PGTT: "passThrough" } });
    const names = (body: () => void) =>
      bench.traced(body).filter(({ name }) => name.startsWith("config:") || name === "table:read");
    const first = names(() => bench.translate(PAGE, READ, 5));
    expect(first.map((event) => (event.name === "table:read" ? event.table : event.name))).toEqual([
      "config:missed",
      "root",
      "context",
      "config:missed",
      "pasid-dir",
      "pasid",
    ]);
    const second = names(() => bench.translate(PAGE + 0x8000_0000n, READ, 5));
    expect(second.map(({ name }) => name)).toEqual(["config:hit", "config:hit"]);
  });
});
