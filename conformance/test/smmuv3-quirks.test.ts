import { TranslationStatus } from "@iommukit/core";
import { CD, EVENT, F_TRANSLATION, F_WALK_EABT, L1STD, STE } from "@iommukit/iommu-smmuv3";
import { describe, expect, it } from "vitest";
import { Reply } from "../src/oracle/qtest.js";
import { type Configuration, Outcome, type TableRead } from "../src/oracle/smmuv3/outcome.js";
import { QUIRKS } from "../src/oracle/smmuv3/quirks.js";

type Values = Readonly<Record<string, number | bigint | boolean | string>>;

interface Given {
  readonly iova?: bigint;
  readonly write?: boolean;
  readonly ok?: boolean;
  /** Table entries of the transfer, and of those before it. */
  readonly reads?: readonly TableRead[];
  readonly before?: readonly TableRead[];
  readonly ste?: Values;
  readonly cd?: Values;
  readonly span?: number;
  readonly changed?: boolean;
  readonly model?: Int32Array;
  readonly qemu?: Int32Array;
}

function event(name: keyof typeof EVENT, values: Values = {}): Int32Array {
  const all = { ID: EVENT[name], StreamID: 0x10, ...values };
  return "FetchAddr" in values ? F_WALK_EABT.encode(all) : F_TRANSLATION.encode(all);
}

function reply(text: string): Reply {
  return Object.assign(new Reply(), { text: `OK ${text}` });
}

function outcome(given: Given): Outcome {
  const { iova = 0x1000n, write = false, ok = false, reads = [], before = [], span, qemu } = given;
  const configuration: Configuration = {
    ste: STE.encode({ V: true, Config: "s1", S2T0SZ: 24, S2SL0: 1, S2PS: 4, S2R: true, ...given.ste }),
    cd: CD.encode({ V: true, IPS: 4, T0SZ: 25, T1SZ: 25, ...given.cd }),
    level1: span === undefined ? null : L1STD.encode({ Span: span }),
  };
  const configurations = given.changed ? [configuration, configuration] : [configuration];
  const status = ok ? TranslationStatus.OK : TranslationStatus.FAULT;
  const one = new Outcome(iova, write, status, 0, reads, [...before, ...reads], configurations);
  one.modelEvents = given.model ? [given.model] : [];
  const bytes = Buffer.from((qemu ?? new Int32Array(8)).buffer).toString("base64");
  one.qemuEvents = { count: reply(qemu ? "0x1" : "0x0"), record: reply(bytes) };
  return one;
}

function read(table: string, value: bigint, index = 0): TableRead {
  return { table, index, value };
}

const TABLE = 0x4101_0003n;
const READ_ONLY_TABLE = (1n << 62n) | TABLE;
const PAGE = 0x5000_0403n;
const NESTED = { Config: "nested" } as const;

/** By quirk: what it explains, and what looks like it and is not. */
const CASES: Readonly<Record<string, { readonly yes: readonly Given[]; readonly no: readonly Given[] }>> = {
  "aptable-first": {
    yes: [{ write: true, reads: [read("S1 L1", READ_ONLY_TABLE)], qemu: event("F_PERMISSION") }],
    no: [
      { write: false, reads: [read("S1 L1", READ_ONLY_TABLE)], qemu: event("F_PERMISSION") },
      { write: true, reads: [read("S1 L1", TABLE)], qemu: event("F_PERMISSION") },
      { write: true, reads: [read("S2 L1", READ_ONLY_TABLE)], qemu: event("F_PERMISSION") },
    ],
  },
  "aptable-not-cached": {
    yes: [
      { write: true, before: [read("S1 L1", READ_ONLY_TABLE)], model: event("F_PERMISSION") },
      { write: true, before: [read("S1 L1", READ_ONLY_TABLE)], qemu: event("F_PERMISSION", { S2: true }) },
    ],
    no: [
      { write: true, reads: [read("S1 L1", READ_ONLY_TABLE)], model: event("F_PERMISSION") },
      { write: true, before: [read("S1 L1", READ_ONLY_TABLE)], ok: true, qemu: event("F_PERMISSION", { S2: true }) },
      { write: true, before: [read("S1 L1", READ_ONLY_TABLE)], model: event("F_PERMISSION"), qemu: event("F_ACCESS") },
    ],
  },
  "output-size-last": {
    yes: [
      { reads: [read("S1 L3", 3n)], model: event("F_ADDR_SIZE"), qemu: event("F_ACCESS") },
      { reads: [read("S1 L3", PAGE)], model: event("F_ADDR_SIZE"), qemu: event("F_PERMISSION") },
    ],
    no: [
      { reads: [read("S1 L3", PAGE)], model: event("F_ADDR_SIZE"), qemu: event("F_ACCESS") },
      { reads: [read("S1 L2", TABLE)], model: event("F_ADDR_SIZE"), qemu: event("F_PERMISSION") },
    ],
  },
  "table-address-size": {
    yes: [
      { reads: [read("S1 L2", TABLE)], model: event("F_ADDR_SIZE"), qemu: event("F_WALK_EABT") },
      { reads: [read("S1 L2", TABLE)], qemu: event("F_WALK_EABT") },
    ],
    no: [{ reads: [read("S1 L3", PAGE)], model: event("F_ADDR_SIZE"), qemu: event("F_WALK_EABT") }],
  },
  "table-address-class": {
    yes: [{ model: event("F_ADDR_SIZE", { Class: "IN" }), qemu: event("F_ADDR_SIZE", { Class: "TT", IPA: 0x1000 }) }],
    no: [{ model: event("F_ADDR_SIZE"), qemu: event("F_ADDR_SIZE", { RnW: true }) }],
  },
  "tlb-permission-ipa": {
    yes: [{ model: event("F_PERMISSION", { S2: true, IPA: 0x1000 }), qemu: event("F_PERMISSION") }],
    no: [
      {
        reads: [read("S1 L3", PAGE)],
        model: event("F_PERMISSION", { S2: true, IPA: 0x1000 }),
        qemu: event("F_PERMISSION"),
      },
    ],
  },
  "bypass-size": {
    yes: [{ ste: { Config: "s2" }, model: event("F_ADDR_SIZE") }],
    no: [{ reads: [read("S1 L3", PAGE)], model: event("F_ADDR_SIZE") }],
  },
  "cd-fetch-address": {
    yes: [
      { model: event("F_CD_FETCH", { FetchAddr: 0x3000 }), qemu: event("F_TRANSLATION", { ID: 9, InputAddr: 0x3000 }) },
    ],
    no: [
      { model: event("F_CD_FETCH", { FetchAddr: 0x3000 }), qemu: event("F_TRANSLATION", { ID: 9, InputAddr: 0x4000 }) },
    ],
  },
  "context-pointer-size": {
    yes: [{ ste: { S1ContextPtr: 2n ** 45n }, model: event("C_BAD_STE"), qemu: event("F_CD_FETCH") }],
    no: [{ ste: { S1ContextPtr: 0x1000n }, model: event("C_BAD_STE"), qemu: event("F_CD_FETCH") }],
  },
  "tbi1-is-tbi0": {
    yes: [{ iova: 0x12ff_ff80_0000_0000n, cd: { TBI: 2 }, qemu: event("F_TRANSLATION") }],
    no: [{ iova: 0x1200_0000_0000_0000n, cd: { TBI: 2 }, qemu: event("F_TRANSLATION") }],
  },
  "tag-in-tlb": {
    yes: [{ iova: 0x1200_0000_0000_1000n, cd: { TBI: 1 }, model: event("F_PERMISSION") }],
    no: [{ iova: 0x1200_0000_0000_1000n, cd: { TBI: 0 }, model: event("F_PERMISSION") }],
  },
  "config-cached-whole": {
    yes: [{ changed: true, model: event("C_BAD_CD") }],
    no: [{ changed: true, reads: [read("STE", 0n)], model: event("C_BAD_CD") }, { model: event("C_BAD_CD") }],
  },
  "s2-httu": {
    yes: [{ ste: { Config: "s2", S2HA: true }, model: event("C_BAD_STE") }],
    no: [{ ste: { Config: "s2" }, model: event("C_BAD_STE") }],
  },
  "s2-start-level": {
    yes: [{ ste: { Config: "s2", S2T0SZ: 35, S2SL0: 2 }, model: event("C_BAD_STE") }],
    no: [{ ste: { Config: "s2", S2T0SZ: 24, S2SL0: 2 }, model: event("C_BAD_STE") }],
  },
  "s1stalld-always": {
    yes: [{ ste: { Config: "s2", S1STALLD: true }, qemu: event("C_BAD_STE") }],
    no: [{ ste: { Config: "s1", S1STALLD: true }, qemu: event("C_BAD_STE") }],
  },
  "s2-tlb-permission": {
    yes: [{ ste: { Config: "s2" }, model: event("F_PERMISSION", { S2: true }) }],
    no: [{ ste: { Config: "s2" }, reads: [read("S2 L3", PAGE)], model: event("F_PERMISSION", { S2: true }) }],
  },
  "s2-input-size": {
    yes: [{ ste: { Config: "s2", S2T0SZ: 24, S2PS: 1 }, qemu: event("C_BAD_STE") }],
    no: [{ ste: { Config: "s2", S2T0SZ: 24, S2PS: 2 }, qemu: event("C_BAD_STE") }],
  },
  "s2-concatenation": {
    yes: [
      { ste: { Config: "s2" }, before: [read("S2 L1", TABLE, 512)] },
      {
        ste: { Config: "s2", S2TTB: 0x3_0000_0000n },
        model: event("F_WALK_EABT", { FetchAddr: 0x3_0000_1000 }),
        qemu: event("F_WALK_EABT", { FetchAddr: 0x3_0000_0000 }),
      },
    ],
    no: [
      { ste: { Config: "s2" }, before: [read("S2 L1", TABLE, 511)] },
      { ste: { Config: "s1" }, before: [read("S2 L1", TABLE, 512)] },
      { ste: { Config: "s2", S2TTB: 0x3_0000_0000n }, model: event("F_WALK_EABT", { FetchAddr: 0x3_0000_0ff8 }) },
    ],
  },
  "cd-fault-rnw": {
    yes: [{ model: event("F_TRANSLATION", { Class: "CD" }), qemu: event("F_TRANSLATION", { Class: "CD", RnW: true }) }],
    no: [{ model: event("F_TRANSLATION", { Class: "IN" }), qemu: event("F_TRANSLATION", { Class: "IN", RnW: true }) }],
  },
  "nested-range-record": {
    yes: [
      { ste: NESTED, model: event("F_TRANSLATION") },
      { ste: NESTED, qemu: event("F_TRANSLATION") },
    ],
    no: [
      { ste: NESTED, reads: [read("S1 L1", TABLE)], model: event("F_TRANSLATION") },
      { model: event("F_TRANSLATION") },
    ],
  },
  "ttb-with-cd": {
    yes: [{ ste: NESTED, cd: { TTB1: 0x7000n }, qemu: event("F_TRANSLATION", { Class: "TT", IPA: 0x7000 }) }],
    no: [{ ste: NESTED, cd: { TTB1: 0x7000n }, qemu: event("F_TRANSLATION", { Class: "TT", IPA: 0x8000 }) }],
  },
  "ttb-cut": {
    yes: [{ ste: NESTED, cd: { IPS: 0 }, model: event("F_WALK_EABT", { FetchAddr: 2 ** 32 }) }],
    no: [{ ste: NESTED, cd: { IPS: 1 }, model: event("F_WALK_EABT", { FetchAddr: 2 ** 32 }) }],
  },
  "nested-silent": {
    yes: [{ ste: { ...NESTED, S2R: false }, qemu: event("F_TRANSLATION") }],
    no: [{ ste: NESTED, qemu: event("F_TRANSLATION") }],
  },
  "tt-fault-stage": {
    yes: [
      { model: event("F_ACCESS", { Class: "TT", S2: true }), qemu: event("F_ACCESS", { Class: "TT" }) },
      { model: event("F_ACCESS", { Class: "TT", S2: true }) },
    ],
    no: [{ model: event("F_ACCESS", { Class: "IN", S2: true }), qemu: event("F_ACCESS", { Class: "IN" }) }],
  },
  "block-level": {
    yes: [
      { reads: [read("S1 L0", 0x401n)], model: event("F_TRANSLATION") },
      { cd: { TG0: "granule16K" }, reads: [read("S1 L1", 0x401n)], model: event("F_TRANSLATION") },
      { ste: { ...NESTED, S2TG: "granule64K" }, reads: [read("S2 L1", 0x401n)], model: event("F_TRANSLATION") },
      // QEMU's TLB has it.
      { cd: { TG0: "granule16K" }, before: [read("S1 L1", 0x401n)] },
    ],
    no: [
      { reads: [read("S1 L1", 0x401n)], model: event("F_TRANSLATION") },
      { cd: { TG0: "granule16K" }, reads: [read("S1 L2", 0x401n)], model: event("F_TRANSLATION") },
      { ste: { S2TG: "granule64K" }, reads: [read("S1 L1", 0x401n)], model: event("F_TRANSLATION") },
    ],
  },
  "table-translated-once": {
    yes: [
      { ste: NESTED, before: [read("S1 L2", TABLE, 512)], model: event("F_ACCESS") },
      // 64 KiB granule: the descriptor that could not be fetched has index 0x200 of its level 3 table.
      {
        ste: NESTED,
        cd: { TG0: "granule64K", T0SZ: 16 },
        iova: 0x200_0000n,
        reads: [read("S1 L2", TABLE)],
        model: event("F_WALK_EABT", { Class: "TT", FetchAddr: 0x3_0000_0000 }),
      },
    ],
    no: [
      {
        ste: NESTED,
        cd: { TG0: "granule64K", T0SZ: 16 },
        iova: 0x1ff_0000n,
        reads: [read("S1 L2", TABLE)],
        model: event("F_WALK_EABT", { Class: "TT", FetchAddr: 0x3_0000_0ff8 }),
      },
      { before: [read("S1 L2", TABLE, 512)], model: event("F_ACCESS") },
    ],
  },
  "level1-span": {
    yes: [
      { span: 7, model: event("C_BAD_STREAMID"), qemu: event("C_BAD_STE") },
      { span: 5, model: event("C_BAD_STREAMID") },
    ],
    no: [
      { span: 3, model: event("C_BAD_STREAMID") },
      { span: 5, model: event("C_BAD_STE") },
    ],
  },
};

describe("QEMU's SMMUv3 quirks", () => {
  it("each have a case here", () => {
    expect(QUIRKS.map(({ name }) => name).sort()).toEqual(Object.keys(CASES).sort());
  });

  it.each(QUIRKS)("$name: $what", (quirk) => {
    const { yes, no } = CASES[quirk.name];
    expect(yes.map((given) => quirk.explains(outcome(given)))).toEqual(yes.map(() => true));
    expect(no.map((given) => quirk.explains(outcome(given)))).toEqual(no.map(() => false));
  });
});
