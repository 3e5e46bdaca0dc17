/** `record_event` of a device script: structures of its own, for one stream, that make its next transaction run into an event. */
import type { PhysicalMemory } from "@iommukit/core";
import {
  CD,
  CR0,
  CR2,
  EVENT,
  S1_DESCRIPTOR,
  type Smmuv3Hardware,
  STE,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
  TABLE_DESCRIPTOR,
} from "@iommukit/iommu-smmuv3";

/**
 * Away from what scripts use: a linear stream table, one CD, one start table for the low and the high half of 48 bits of
 * address, one table of 1 GiB blocks.
 */
const STREAMS = 0xf000_0000;
const CONTEXT = 0xf100_0000;
const TABLE = 0xf200_0000;
const BLOCKS = 0xf200_1000;
const STREAM_BITS = 16;
/** Beyond the RAM. */
const NOWHERE = 0x2_0000_0000;

interface Structures {
  readonly base?: number;
  readonly streamBits?: number;
  readonly ste?: Parameters<typeof STE.encode>[0];
  readonly cd?: Parameters<typeof CD.encode>[0];
  /** Every block. */
  readonly block?: Parameters<typeof S1_DESCRIPTOR.encode>[0];
}

/** By event number, what is wrong in structures that would otherwise map everything for reading. */
const WRONG: ReadonlyMap<number, Structures> = new Map<number, Structures>([
  [EVENT.C_BAD_STREAMID, { streamBits: 0 }],
  [EVENT.F_STE_FETCH, { base: NOWHERE }],
  [EVENT.C_BAD_STE, { ste: { V: false } }],
  [EVENT.F_CD_FETCH, { ste: { S1ContextPtr: NOWHERE } }],
  [EVENT.C_BAD_CD, { cd: { V: false } }],
  [EVENT.F_WALK_EABT, { cd: { TTB0: NOWHERE, TTB1: NOWHERE } }],
  [EVENT.F_TRANSLATION, { cd: { EPD0: true, EPD1: true } }],
  [EVENT.F_ADDR_SIZE, { cd: { IPS: 0 }, block: { OutputAddress: 2 ** 36 } }],
  [EVENT.F_ACCESS, { block: { AF: false } }],
  [EVENT.F_PERMISSION, { block: { AP: "el1ReadOnly" } }],
]);

/**
 * @param id event number
 * @returns what puts the registers back; undefined for an event that no transaction without substream and ATS meets
 */
export function provoke(
  chip: Smmuv3Hardware,
  memory: PhysicalMemory,
  id: number,
  sid: number,
): (() => void) | undefined {
  const wrong = WRONG.get(id);
  if (wrong === undefined) return undefined;
  const put = (pa: number, words: Int32Array) => memory.writeBytes(pa, new Uint8Array(words.buffer));
  put(STREAMS + sid * STE.bytes, STE.encode({ V: true, Config: "s1", S1ContextPtr: CONTEXT, ...wrong.ste }));
  const low = { T0SZ: 16, TG0: "granule4K", TTB0: TABLE } as const;
  const high = { T1SZ: 16, TG1: "granule4K", TTB1: TABLE } as const;
  const walk = { ...low, ...high, TBI: 3, IPS: 2 } as const;
  put(CONTEXT, CD.encode({ V: true, AA64: true, R: true, A: true, ...walk, ...wrong.cd }));
  const block = S1_DESCRIPTOR.encode({ Type: "block", AP: "el1ReadWrite", AF: true, ...wrong.block });
  const table = TABLE_DESCRIPTOR.encode({ Type: "tableOrPage", NextLevelTable: BLOCKS });
  for (let at = 0; at < 0x1000; at += S1_DESCRIPTOR.bytes) {
    put(TABLE + at, table);
    put(BLOCKS + at, block);
  }
  const registers = [STRTAB_BASE_CFG, CR2, CR0].map(({ offset }) => [offset, chip.read32(offset)] as const);
  const base = chip.read64(STRTAB_BASE.offset);
  const cr0 = chip.read32(CR0.offset);
  chip.write32(CR0.offset, cr0 & ~CR0.SMMUEN.lowMask);
  chip.write64(STRTAB_BASE.offset, BigInt(wrong.base ?? STREAMS));
  chip.write32(STRTAB_BASE_CFG.offset, wrong.streamBits ?? STREAM_BITS);
  chip.write32(CR2.offset, CR2.RECINVSID.lowMask);
  chip.write32(CR0.offset, cr0 | CR0.SMMUEN.lowMask);
  return () => {
    chip.write32(CR0.offset, cr0 & ~CR0.SMMUEN.lowMask);
    chip.write64(STRTAB_BASE.offset, base);
    for (const [offset, value] of registers) chip.write32(offset, value);
  };
}
