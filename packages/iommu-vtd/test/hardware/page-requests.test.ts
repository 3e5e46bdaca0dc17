import { Access, NO_PASID, PrgResponseCode } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { everything } from "../../src/presets.js";
import { PAGE_REQUEST_DESCRIPTOR } from "../../src/spec/page-requests.js";
import { PE, PQA, PQH, PQT, PRS } from "../../src/spec/registers.js";
import { Bench, PRQ, RAM, RID } from "./bench.js";

const { SUCCESS, INVALID_REQUEST } = PrgResponseCode;
const PASID = 5;

describe("page requests", () => {
  let bench: Bench;
  let root: number;
  function setUp(context: Record<string, unknown> = {}, entry: Record<string, unknown> = {}) {
    bench = new Bench(everything);
    root = bench.table();
    bench.scalable({ 0: { PGTT: "passThrough" }, [PASID]: { PGTT: "firstStage", FSPTPTR: root, ...entry } }, context);
    bench.set(PQA, { PQA: PRQ });
    bench.set(PE.CTL, { IM: false });
  }
  beforeEach(() => setUp());
  const tail = () => Number(bench.chip.read64(PQT.offset));
  const status = () => bench.get(PRS);
  const entry = (index: number) =>
    PAGE_REQUEST_DESCRIPTOR.decode(new Int32Array(8).map((_, i) => bench.memory.load32(PRQ + index * 32 + i * 4)));

  it("are written as 32 bytes (H19)", () => {
    bench.pageRequest({
      pasid: PASID,
      address: 0x7f00_0000_1000,
      write: true,
      execute: true,
      privileged: true,
      last: false,
      prgi: 0x1ff,
    });
    bench.pageRequest({ address: 0x2000 });
    expect(entry(0)).toEqual({
      TYPE: 1,
      PP: true,
      RID,
      PASID,
      EXE: true,
      PM: true,
      RD: true,
      WR: true,
      LPIG: false,
      PRGI: 0x1ff,
      ADDR: 0x7f00_0000_1000n,
    });
    expect(entry(1)).toMatchObject({ PP: false, PASID: 0, LPIG: true, PRGI: 3, ADDR: 0x2000n });
    expect([tail(), status().PPR]).toEqual([64, true]);
  });

  it("interrupt only when PPR and PRO were both clear (H20)", () => {
    bench.pageRequest({ pasid: PASID });
    bench.pageRequest({ pasid: PASID });
    expect(bench.wires).toEqual(["page-request"]);
    bench.chip.write32(PRS.offset, 1);
    bench.pageRequest({ pasid: PASID });
    expect(bench.wires.length).toBe(2);
  });

  it("forget a held interrupt when software has cleared PPR", () => {
    bench.set(PE.CTL, { IM: true });
    bench.pageRequest({ pasid: PASID });
    expect(bench.get(PE.CTL)).toEqual({ IM: true, IP: true });
    bench.set(PRS, { PPR: true });
    expect(bench.get(PE.CTL)).toEqual({ IM: true, IP: false });
  });

  it("interrupt with the message that PEDATA, PEADDR and PEUADDR hold (11.4.11.5)", () => {
    bench.set(PE.ADDR, { MA: 0xfee0_3000 });
    bench.set(PE.UADDR, { MUA: 2 });
    bench.set(PE.DATA, { IMD: 0x52 });
    bench.pageRequest({ pasid: PASID });
    expect(bench.messages).toEqual([{ address: 0x2_fee0_3000, data: 0x52 }]);
  });

  it("overflow at N - 1 entries: PRO, the last of a group is answered with success, nothing else is written (7.4.1)", () => {
    for (let n = 0; n < 127; n++) bench.pageRequest({ pasid: PASID, last: false });
    expect([tail(), status().PRO]).toEqual([127 * 32, false]);
    bench.pageRequest({ pasid: PASID, last: false });
    expect([tail(), status().PRO, bench.responses]).toEqual([127 * 32, true, []]);
    bench.pageRequest({ pasid: PASID, prgi: 8 });
    expect(bench.responses).toEqual([{ rid: RID, pasid: PASID, prgi: 8, code: SUCCESS }]);
    // Room alone does not help while PRO stands.
    bench.chip.write64(PQH.offset, BigInt(127 * 32));
    bench.pageRequest({ pasid: PASID, prgi: 9 });
    expect([tail(), bench.responses.length]).toEqual([127 * 32, 2]);
    bench.chip.write32(PRS.offset, 3);
    bench.pageRequest({ pasid: PASID });
    expect([tail(), bench.wires.length]).toEqual([0, 2]);
  });

  it("use a queue of PQS pages and wrap around in it", () => {
    bench.set(PQA, { PQA: PRQ, PQS: 1 });
    for (let n = 0; n < 300; n++) {
      bench.pageRequest({ pasid: PASID });
      bench.chip.write64(PQH.offset, BigInt(tail()));
    }
    expect(tail()).toBe((300 * 32) % 8192);
  });

  it.each([
    ["PRE clear", { PRE: 0 }, {}, PASID, 0x47],
    ["PASIDE clear", { PASIDE: 0 }, {}, PASID, 0x45],
    ["a PASID too large", {}, {}, 1 << 13, 0x46],
    ["RID_PASID", { RID_PASID: PASID }, {}, PASID, 0x48],
    ["a PASID entry that is not present", {}, {}, 9, 0x59],
    ["a PASID entry that is invalid", {}, { PGTT: 0 }, PASID, 0x5b],
  ])(
    "are refused for %s: a record, and an invalid response to the last of a group (table 30)",
    (_, context, pasidEntry, pasid, reason) => {
      setUp(context, pasidEntry);
      bench.pageRequest({ pasid, last: false });
      expect(bench.responses).toEqual([]);
      bench.pageRequest({ pasid, prgi: 1 });
      expect([bench.responses, bench.fault(0).FR, tail()]).toEqual([
        [{ rid: RID, pasid, prgi: 1, code: INVALID_REQUEST }],
        reason,
        0,
      ]);
    },
  );

  it("are refused silently where FPD is set (C10)", () => {
    setUp({}, { P: 0, FPD: 1 });
    bench.pageRequest({ pasid: PASID });
    expect([bench.responses[0].code, bench.status.PPF]).toEqual([INVALID_REQUEST, false]);
  });

  it("are refused in legacy mode (RTA.3)", () => {
    const legacy = new Bench(everything);
    legacy.legacy({ TT: 1 });
    legacy.pageRequest({ pasid: NO_PASID });
    expect([legacy.fault().FR, legacy.responses[0].code]).toEqual([0x32, INVALID_REQUEST]);
  });

  it("never answer a stop marker; without a PASID the same bits are a request", () => {
    setUp({ PRE: 0 });
    bench.pageRequest({ pasid: PASID, read: false, write: false });
    bench.pageRequest({ read: false, write: false });
    expect(bench.responses).toMatchObject([{ pasid: NO_PASID, code: INVALID_REQUEST }]);
    setUp();
    bench.pageRequest({ pasid: 9, read: false, write: false, last: true });
    expect(bench.responses).toEqual([]);
    bench.pageRequest({ pasid: PASID, read: false, write: false, last: true });
    expect(entry(0)).toMatchObject({ RD: false, WR: false, LPIG: true });
  });

  it("get no answer while translation is off or without page requests", () => {
    bench.command("TE", false);
    bench.pageRequest({ pasid: PASID });
    expect([bench.responses, tail()]).toEqual([[], 0]);
  });

  it("drop what the IOTLB holds for the page: a stale read-only entry (6.5.3.1)", () => {
    const leaf = bench.map(root, 4, 0x1000n, BigInt(RAM + 0x80_0000) | 5n, 7n);
    bench.translationRequest(0x1000n, Access.READ | Access.WRITE, PASID);
    expect(bench.ats.write).toBe(false);
    bench.store(leaf, BigInt(RAM + 0x80_0000) | 7n);
    bench.translationRequest(0x1000n, Access.READ | Access.WRITE, PASID);
    expect(bench.ats.write).toBe(false);
    bench.pageRequest({ pasid: PASID, address: 0x1000, write: true });
    bench.translationRequest(0x1000n, Access.READ | Access.WRITE, PASID);
    expect(bench.ats.write).toBe(true);
  });

  it.each(["secondStage", "nested", "passThrough"])("invalidate for PGTT %s as table 27 says", (pgtt) => {
    setUp({}, { PGTT: pgtt, AW: 2, SSPTPTR: 0x1_0009_0000, FSPTPTR: 0 });
    const scopes = bench
      .traced(() => bench.pageRequest({ pasid: PASID, address: 0x1000 }))
      .flatMap((event) => (event.name === "cache:invalidated" && event.cache === "iotlb" ? [event.scope] : []));
    expect(scopes).toEqual([pgtt === "nested" ? "domain" : "page"]);
  });
});
