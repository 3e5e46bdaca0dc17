/**
 * x86-64 paging entries with 4 or 5 levels (Intel SDM volume 3, 4.5), which are VT-d's first-stage entries as well.
 * Linux's software bits are named because its tables are what one finds in a dump.
 */
import { addr, bit, reserved, uint } from "../../bits/field.js";
import { layout } from "../../bits/layout.js";

const LOW = {
  P: bit(0, "present"),
  RW: bit(1, "writes allowed"),
  US: bit(2, "user mode may access"),
  PWT: bit(3, "page-level write-through"),
  PCD: bit(4, "page-level cache disable"),
  A: bit(5, "accessed"),
};

/** Bits 11:9 of entries that map a page. */
const SOFTWARE = {
  SW_SPECIAL: bit(9, "software: Linux _PAGE_SPECIAL, no struct page behind it"),
  EA: bit(10, "ignored by processors; extended access flag of VT-d", {
    condition: "PASID entry EAFE = 1",
    section: "VT-d 9.7",
  }),
  SW_SOFT_DIRTY: bit(11, "software: Linux _PAGE_SOFT_DIRTY"),
};

const HIGH = {
  IGNORED_52: uint(58, 52, "ignored"),
  PKEY: uint(62, 59, "protection key", { condition: "CR4.PKE = 1" }),
  XD: bit(63, "execute disable", { condition: "IA32_EFER.NXE = 1" }),
};

/** PML5E, PML4E, PDPTE and PDE that point to the next table: they have one format. */
export const X86_TABLE = layout(
  {
    name: "x86-64 table entry",
    bits: 64,
    spec: "SDM3 4.5.5 tables 4-14, 4-15, 4-17, 4-19",
    summary: "PML5E, PML4E, PDPTE, PDE: the next table",
  },
  {
    ...LOW,
    IGNORED_6: bit(6, "ignored; Linux sets it"),
    PS: bit(7, "page size: 0 for a table"),
    IGNORED_8: uint(10, 8, "ignored"),
    R: bit(11, "restart, HLAT paging only; else ignored"),
    ADDR: addr(51, 12, "address of the next table"),
    IGNORED_52: uint(62, 52, "ignored"),
    XD: bit(63, "execute disable, for everything below", { condition: "IA32_EFER.NXE = 1" }),
  },
);

/** PTE: maps 4 KiB. */
export const X86_PTE = layout(
  { name: "x86-64 PTE", bits: 64, spec: "SDM3 4.5.5 table 4-20", summary: "4 KiB page" },
  {
    ...LOW,
    D: bit(6, "dirty"),
    PAT: bit(7, "memory type, with PCD and PWT"),
    G: bit(8, "global"),
    ...SOFTWARE,
    ADDR: addr(51, 12, "address of the page"),
    ...HIGH,
  },
);

/** PDE with PS = 1: maps 2 MiB. */
export const X86_PDE_2M = layout(
  { name: "x86-64 PDE, 2 MiB page", bits: 64, spec: "SDM3 4.5.5 table 4-18", summary: "2 MiB page" },
  {
    ...LOW,
    D: bit(6, "dirty"),
    PS: bit(7, "page size: 1"),
    G: bit(8, "global"),
    ...SOFTWARE,
    PAT: bit(12, "memory type, with PCD and PWT"),
    RES0: reserved(20, 13),
    ADDR: addr(51, 21, "address of the page"),
    ...HIGH,
  },
);

/** PDPTE with PS = 1: maps 1 GiB. */
export const X86_PDPTE_1G = layout(
  { name: "x86-64 PDPTE, 1 GiB page", bits: 64, spec: "SDM3 4.5.5 table 4-16", summary: "1 GiB page" },
  {
    ...LOW,
    D: bit(6, "dirty"),
    PS: bit(7, "page size: 1"),
    G: bit(8, "global"),
    ...SOFTWARE,
    PAT: bit(12, "memory type, with PCD and PWT"),
    RES0: reserved(29, 13),
    ADDR: addr(51, 30, "address of the page"),
    ...HIGH,
  },
);
