/**
 * Random tables, walked by explain and by the unit: legacy mode, first stage, second stage, nested. What the unit translates
 * explain must map to the same address; where the unit records a fault explain must stop with the same reason.
 */
import { Access, bareBoard, SlabMemory, Translation, TranslationStatus } from "@iommukit/core";
import {
  CAP,
  CONTEXT_ENTRY,
  FRCD,
  FSTS,
  frcdRegisters,
  GCMD,
  PASID_DIRECTORY_ENTRY,
  PASID_ENTRY,
  PRESETS,
  ROOT_ENTRY,
  RTADDR,
  SM_CONTEXT_ENTRY,
  SM_ROOT_ENTRY,
  VtdHardware,
} from "@iommukit/iommu-vtd";
import { expect, it } from "vitest";
import { walkVtd } from "../../src/explain/walk/vtd-walk.js";
import { randomOf } from "./random.js";

const RAM = 0x1_0000_0000;
const [ROOT, CONTEXTS, DIRECTORY, PASIDS] = [RAM, RAM + 0x1000, RAM + 0x2000, RAM + 0x3000];
/** Tables of both stages. */
const POOL = RAM + 0x1_0000;
const FRAMES = 48;
const RID = 0x10;
const PASID = 3;
const LINEAR = {
  ...PRESETS.everything,
  caches: { context: 0, pasid: 0, iotlb: 0, pagingStructure: 0, interruptEntry: 0 },
};

const { below, pick, chance, bits } = randomOf(7);

function board() {
  const memory = new SlabMemory([{ base: RAM, size: 0x10_0000 }]);
  return { memory, chip: new VtdHardware(bareBoard(memory), { name: "vtd", preset: LINEAR }) };
}

type Board = ReturnType<typeof board>;

function put({ memory }: Board, address: number, table: { encode(values: object): Int32Array }, values: object): void {
  for (const [n, word] of table.encode(values).entries()) memory.store32(address + 4 * n, word);
}

function store({ memory }: Board, address: number, value: bigint): void {
  memory.store64(address, Number(BigInt.asIntN(32, value >> 32n)), Number(BigInt.asIntN(32, value)));
}

const HALF = POOL + (FRAMES / 2) * 0x1000;

/** An entry of either stage: rights in the low three bits, no large pages, which are aligned to more than frames are. */
function fill(unit: Board, first: number, last: number, inputs: () => bigint | undefined): void {
  for (let at = first; at < last; at += 8) {
    const address = (inputs() ?? BigInt(HALF + below(FRAMES / 2) * 0x1000)) & 0xf_ffff_ffff_f000n;
    const low = chance(88) ? 7n : BigInt(below(8));
    store(unit, at, address | low | (chance(4) ? 1n << 63n : 0n));
  }
}

/** @returns bits of the addresses that are worth asking */
function configure(unit: Board): number {
  const type = pick(["legacy", "firstStage", "secondStage", "nested", "nested"] as const);
  const aw = 1 + below(3);
  const width = aw * 9 + 30;
  // First-stage entries of a nested table hold guest addresses; the second stage's tables are in the other half.
  fill(unit, POOL, HALF, () => (type === "nested" ? bits(Math.min(width, 52)) : undefined));
  fill(unit, HALF, POOL + FRAMES * 0x1000, () => undefined);
  const five = chance(50);
  if (type === "legacy") {
    put(unit, ROOT, ROOT_ENTRY, { P: true, CTP: CONTEXTS });
    put(unit, CONTEXTS + RID * 16, CONTEXT_ENTRY, { P: true, AW: aw, DID: 1, SSPTPTR: POOL });
  } else {
    put(unit, ROOT, SM_ROOT_ENTRY, { LP: true, LCTP: CONTEXTS });
    put(unit, CONTEXTS + RID * 32, SM_CONTEXT_ENTRY, { P: true, PASIDE: true, PASIDDIRPTR: DIRECTORY });
    put(unit, DIRECTORY, PASID_DIRECTORY_ENTRY, { P: true, SMPTBLPTR: PASIDS });
    put(unit, PASIDS + PASID * 64, PASID_ENTRY, {
      P: true,
      PGTT: type,
      AW: aw,
      DID: 1,
      PWSNP: true,
      SSPTPTR: HALF,
      FSPTPTR: type === "nested" ? Number(bits(Math.min(width, 48)) & 0xffff_ffff_f000n) : POOL,
      FSPM: five ? 1 : 0,
      SRE: chance(70),
      WPE: chance(50),
      ERE: chance(70),
      NXE: chance(50),
      SMEP: chance(50),
    });
  }
  unit.chip.write64(RTADDR.offset, BigInt(ROOT) | (type === "legacy" ? 0n : 1n << 10n));
  unit.chip.write32(GCMD.offset, GCMD.encode({ SRTP: true })[0] >>> 0);
  unit.chip.write32(GCMD.offset, GCMD.encode({ TE: true })[0] >>> 0);
  return type === "legacy" || type === "secondStage" ? width : five ? 56 : 47;
}

it("VT-d: explain's walk ends as the unit's does", { timeout: 120_000 }, () => {
  const wrong: object[] = [];
  const ends = new Map<string, number>();
  for (let machine = 0; machine < 60; machine++) {
    const unit = board();
    const { memory, chip } = unit;
    const width = configure(unit);
    const legacy = (chip.read64(RTADDR.offset) & 0xc00n) === 0n;
    const cap = CAP.decode(new Int32Array([chip.read32(CAP.offset) | 0, chip.read32(CAP.offset + 4) | 0]));
    const records = frcdRegisters(cap.FRO, cap.NFR + 1);
    const images = {
      read64: (at: bigint) =>
        at >= BigInt(RAM) && at < BigInt(RAM) + 0x10_0000n ? memory.load64(Number(at)) : undefined,
    };
    const out = new Translation();
    for (let request = 0; request < 200; request++) {
      const address = bits(chance(96) ? width : 64);
      const [access, code] = pick([
        ["read", Access.READ],
        ["write", Access.WRITE],
        ...(legacy ? [] : [["execute", Access.READ | Access.EXEC] as const]),
      ] as const);
      const privileged = !legacy && chance(40);
      const halves = [Number(BigInt.asIntN(32, address >> 32n)), Number(BigInt.asIntN(32, address))] as const;
      const status = chip.translate(RID, legacy ? -1 : PASID, ...halves, code | (privileged ? Access.PRIV : 0), out);
      let wanted = `-> 0x${((BigInt(out.hi >>> 0) << 32n) | BigInt(out.lo >>> 0)).toString(16)},`;
      let end = "mapped";
      if (status !== TranslationStatus.OK) {
        const record = records[FSTS.FRI.get(Int32Array.of(chip.read32(FSTS.offset)))].LO.offset;
        const words = Int32Array.from({ length: 4 }, (_, n) => chip.read32(record + 4 * n) | 0);
        chip.write32(record + 12, 0x8000_0000);
        end = `0x${FRCD.FR.get(words).toString(16).padStart(2, "0")}`;
        wanted = `(fault ${end})`;
      }
      ends.set(end, (ends.get(end) ?? 0) + 1);
      const walk = walkVtd(images, legacy ? BigInt(ROOT) : BigInt(ROOT) | (1n << 10n), {
        rid: RID,
        pasid: legacy ? undefined : PASID,
        address,
        access,
        privileged,
      });
      if (!walk.verdict.includes(wanted))
        wrong.push({ access, privileged, legacy, address: address.toString(16), wanted, ...walk });
    }
  }
  expect(wrong.slice(0, 1)).toEqual([]);
  const expected = ["mapped", "0x05", "0x06", "0x71", "0x76", "0x77", "0x79", "0x81", "0x82", "0x84", "0x85", "0x86"];
  expect(expected.filter((end) => (ends.get(end) ?? 0) <= 20)).toEqual([]);
});
