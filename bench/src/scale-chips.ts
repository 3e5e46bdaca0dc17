/**
 * One address space of 256 KiB behind chips with up to 65,536 devices, and up to 1,048,575 PASIDs that all use it: does a
 * translation cost more the more of them there are?
 */
import {
  Access,
  bareBoard,
  createVmsav8Table,
  createX86Table,
  FirstFitPages,
  PAGE_SIZE,
  PageFlag,
  SlabMemory,
  Translation,
  type TranslationPort,
  TranslationStatus,
} from "@iommukit/core";
import { PRESETS as SMMU_PRESETS } from "@iommukit/iommu-smmuv3";
import { PRESETS as VTD_PRESETS } from "@iommukit/iommu-vtd";
import { rootTable, startSmmuv3, startVtd, streamTable } from "./configuration.js";
import type { Arch } from "./machine.js";

const RAM = { base: 0x1_0000_0000, size: 0x2000_0000 };
const PAGES = 64;

/** Requesters and PASIDs that are configured, and how many of them take turns, as far apart as they can be. */
export interface Population {
  readonly devices: number;
  readonly pasids: number;
  readonly active: number;
}

function chip(arch: Arch, { devices, pasids }: Population): TranslationPort {
  const memory = new SlabMemory([RAM]);
  const pages = new FirstFitPages(memory);
  const board = bareBoard(memory);
  const environment = { memory, pages, trace: board.trace };
  const table = arch === "smmuv3" ? createVmsav8Table(environment, "scale") : createX86Table(environment, "scale", 4);
  const flags = PageFlag.WRITE | PageFlag.USER | PageFlag.ACCESSED | PageFlag.DIRTY;
  for (let page = 0; page < PAGES; page++) table.map(page, 0x10_0000_0000 + page * PAGE_SIZE, flags);
  const alloc = (bytes: number) => pages.alloc(Math.ceil(bytes / PAGE_SIZE), "scale");
  const requesters = { memory, alloc, first: 0, count: devices, pasids };
  if (arch === "vtd") return startVtd(board, VTD_PRESETS["sapphire-rapids-like"], rootTable(requesters, table.root));
  const stream = streamTable(requesters, table.root, table.mair);
  return startSmmuv3(board, SMMU_PRESETS["mmu-700-like"], stream, Math.ceil(Math.log2(devices)));
}

/** @returns nanoseconds of CPU time of one translation of a random page */
export function translationCost(arch: Arch, population: Population, count: number): number {
  const { devices, pasids, active } = population;
  const port = chip(arch, population);
  const [rids, ssids] = [Math.min(devices, active), Math.min(pasids, active)];
  const [ridStep, ssidStep] = [Math.floor(devices / rids), Math.floor(pasids / ssids)];
  const out = new Translation();
  const pass = (times: number) => {
    let x = 1;
    for (let i = 0; i < times; i++) {
      x = (Math.imul(x, 1_664_525) + 1_013_904_223) | 0;
      const [rid, pasid] = [(i % rids) * ridStep, 1 + (i % ssids) * ssidStep];
      const status = port.translate(rid, pasid, 0, (x >>> 4) & 0x3_f000, Access.READ, out);
      if (status !== TranslationStatus.OK) throw new Error(`translation ${i} ended with status ${status}`);
    }
  };
  pass(count);
  const before = process.cpuUsage();
  pass(count);
  const { user, system } = process.cpuUsage(before);
  return ((user + system) / count) * 1000;
}
