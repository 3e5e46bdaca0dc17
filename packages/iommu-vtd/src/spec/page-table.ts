/**
 * Paging entries (VT-d 9.7, 9.8). The first stage is the processor's own format; the second stage is VT-d's. Nine bits of the
 * address select the entry at each level; level 1 is the one of 4 KiB pages.
 */
import { addr, bit, layout, uint } from "@iommukit/core";

export const FIRST_STAGE_ENTRY = layout(
  { name: "First-Stage Paging Entry", bits: 64, spec: "VT-d 9.7" },
  {
    P: bit(0, "present"),
    RW: bit(1, "writes are allowed"),
    US: bit(2, "user-privilege requests are allowed"),
    PWT: bit(3, "page-level write-through"),
    PCD: bit(4, "page-level cache disable"),
    A: bit(5, "accessed"),
    D: bit(6, "dirty; leaf entries"),
    PS: bit(7, "leaf of a large page at levels 2 and 3; PAT at level 1"),
    G: bit(8, "global; leaf entries"),
    IGN0: uint(9, 9, "ignored"),
    EA: bit(10, "extended accessed", { condition: "EAFE" }),
    IGN1: uint(11, 11, "ignored"),
    ADDR: addr(51, 12, "next table or page"),
    IGN2: uint(62, 52, "ignored"),
    XD: bit(63, "execution is refused", { condition: "NXE" }),
  },
);

export const SECOND_STAGE_ENTRY = layout(
  { name: "Second-Stage Paging Entry", bits: 64, spec: "VT-d 9.8" },
  {
    R: bit(0, "reads are allowed"),
    W: bit(1, "writes are allowed"),
    X: bit(2, "execution is allowed", { condition: "SSEE" }),
    EMT: uint(5, 3, "extended memory type; leaf entries"),
    IPAT: bit(6, "ignore PAT; leaf entries"),
    PS: bit(7, "leaf of a large page at levels 2 and 3"),
    A: bit(8, "accessed", { condition: "SSADE" }),
    D: bit(9, "dirty; leaf entries", { condition: "SSADE" }),
    IGN0: uint(10, 10, "ignored"),
    SNP: bit(11, "accesses are snooped; leaf entries", { condition: "ECAP.SC" }),
    ADDR: addr(51, 12, "next table or page"),
    IGN1: uint(61, 52, "ignored"),
    TM: bit(62, "transient mapping; leaf entries", { condition: "ECAP.DT" }),
    IGN2: uint(63, 63, "ignored"),
  },
);

/** Levels of a second stage by the AW field of a context or PASID entry; bits of address by level. */
export const AddressWidth = { AW39: 1, AW48: 2, AW57: 3 } as const;

/** Levels of tables for an AW field: 3 to 5. */
export function levelsOf(aw: number): number {
  return aw + 2;
}

/** Address bits that so many levels translate. */
export function bitsOfLevels(levels: number): number {
  return 12 + 9 * levels;
}
