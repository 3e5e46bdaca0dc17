import { Access, AtsStatus, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { everything, PRESETS } from "../../src/presets.js";
import {
  INVALIDATION_WAIT,
  PAGE_GROUP_RESPONSE,
  PASID_CACHE_INVALIDATE,
  PASID_DEVICE_TLB_INVALIDATE,
  PASID_IOTLB_INVALIDATE,
} from "../../src/spec/invalidation.js";
import { PAGE_REQUEST_DESCRIPTOR } from "../../src/spec/page-requests.js";
import { CAP, ECAP, PE, PQA, PQH, PQT, PRS, VER } from "../../src/spec/registers.js";
import { Bench, PRQ, RAM, RID, STATUS } from "./bench.js";

const { READ, WRITE } = Access;
const PASID = 5;
const VA = 0x7f12_3456_7000n;
const PAGE = RAM + 0x80_0000;
/** P, RW, US. */
const LINK = 7n;

describe("VER, CAP and ECAP", () => {
  it.each(Object.values(PRESETS))("show what the preset $name says (11.4.1 to 11.4.3)", (preset) => {
    const bench = new Bench(preset);
    const [MAX, MIN] = preset.version;
    expect(bench.get(VER)).toEqual({ MAX, MIN });
    expect([bench.chip.read64(CAP.offset), bench.chip.read64(ECAP.offset)]).toEqual([preset.cap, preset.ecap]);
    bench.chip.write64(CAP.offset, 0n);
    bench.chip.write32(VER.offset, 0);
    expect([bench.chip.read64(CAP.offset), bench.get(VER).MAX]).toEqual([preset.cap, MAX]);
  });
});

describe("a shared virtual address, end to end", () => {
  it("faults, is paged in by request, translated, dirtied, invalidated", () => {
    const bench = new Bench(everything);
    const root = bench.table();
    bench.scalable({ [PASID]: { PGTT: "firstStage", FSPTPTR: root } });
    const { chip } = bench;
    chip.write64(PQA.offset, BigInt(PRQ));
    chip.write32(PE.CTL.offset, 0);

    // Not present: an empty completion, nothing recorded (7.1.2).
    expect(bench.translationRequest(VA, READ | WRITE, PASID)).toBe(AtsStatus.SUCCESS);
    expect([bench.ats.read, bench.ats.write, bench.status.PPF]).toEqual([false, false, false]);

    // The page request is in the queue, with an interrupt.
    bench.pageRequest({ pasid: PASID, address: Number(VA), write: true, prgi: 9 });
    expect(bench.wires).toEqual(["page-request"]);
    expect(chip.read64(PQT.offset)).toBe(0x20n);
    const words = new Int32Array(8).map((_, i) => bench.memory.load32(PRQ + i * 4));
    expect(PAGE_REQUEST_DESCRIPTOR.decode(words)).toEqual({
      TYPE: 1,
      PP: true,
      RID,
      PASID,
      EXE: false,
      PM: false,
      RD: true,
      WR: true,
      LPIG: true,
      PRGI: 9,
      ADDR: VA,
    });

    // Software maps the page and answers.
    const leaf = bench.map(root, 4, VA, BigInt(PAGE) | LINK, LINK);
    chip.write64(PQH.offset, 0x20n);
    chip.write32(PRS.offset, 1);
    bench.submit(
      PAGE_GROUP_RESPONSE.encode({ TYPE: "pageGroupResponse", PP: true, RID, PASID, PRGI: 9, RC: "success" }),
    );
    expect(bench.responses).toEqual([{ rid: RID, pasid: PASID, prgi: 9, code: 0 }]);

    expect(bench.translationRequest(VA, READ | WRITE, PASID)).toBe(AtsStatus.SUCCESS);
    expect([bench.ats.hi, bench.ats.lo >>> 0, bench.ats.read, bench.ats.write]).toEqual([1, 0x80_0000, true, true]);
    expect(bench.load(leaf)).toBe(BigInt(PAGE) | LINK | 0x60n);
    expect(bench.translate(VA + 0x123n, WRITE, PASID)).toBe(TranslationStatus.OK);
    expect(bench.pa).toBe(PAGE + 0x123);

    // The page goes: stale until the invalidation, then gone.
    bench.store(leaf, 0n);
    expect(bench.translate(VA, READ, PASID)).toBe(TranslationStatus.OK);
    bench.submit(
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "page", DID: 1, PASID, ADDR: VA }),
      PASID_DEVICE_TLB_INVALIDATE.encode({ TYPE: "pasidDeviceTlb", SID: RID, PASID, ADDR: VA }),
      INVALIDATION_WAIT.encode({ TYPE: "wait", SW: true, FN: true, SDATA: 0xcafe, SADDR: STATUS }),
    );
    expect(bench.invalidations).toMatchObject([{ rid: RID, pasid: PASID, shift: 12, lo: 0x3456_7000 }]);
    expect(bench.memory.load32(STATUS)).toBe(0xcafe);
    expect(bench.translate(VA, READ, PASID)).toBe(TranslationStatus.FAULT);
    expect(bench.fault()).toMatchObject({ F: true, FR: 0x71, PP: true, PV: PASID, SID: RID, T1: true, FI: VA });
    bench.clearFault();

    // The PASID goes.
    bench.submit(PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "pasid", DID: 1, PASID }));
    expect(bench.status).toMatchObject({ PPF: false, IQE: false });
  });
});
