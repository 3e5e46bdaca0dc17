/** A page table in RAM of its own, and a count of what it maps. */
import { FirstFitPages, PAGE_SIZE, SlabMemory, Tracer } from "@iommukit/core";
import { PageTable } from "../../src/driver/page-table.js";
import { FIRST_STAGE_FORMAT, type PagingFormat, secondStageFormat } from "../../src/driver/paging-format.js";
import { FIRST_STAGE_ENTRY, SECOND_STAGE_ENTRY } from "../../src/spec/page-table.js";

export const RAM = { base: 0x1000_0000, size: 0x1000_0000 };

export function newTable(levels: number, format: PagingFormat = secondStageFormat(false)) {
  const memory = new SlabMemory([RAM]);
  const pages = new FirstFitPages(memory);
  const table = new PageTable({ format, levels, owner: "table", memory, pages, trace: new Tracer(() => 0) });
  return { memory, pages, table };
}

/** Every leaf below the root: how many of each size in bytes. Read with the field tables, not with the driver's code. */
export function leaves({ memory, table }: ReturnType<typeof newTable>): Map<number, number> {
  const found = new Map<number, number>();
  const { present, large } =
    table.format === FIRST_STAGE_FORMAT
      ? { present: [FIRST_STAGE_ENTRY.P], large: FIRST_STAGE_ENTRY.PS }
      : { present: [SECOND_STAGE_ENTRY.R, SECOND_STAGE_ENTRY.W], large: SECOND_STAGE_ENTRY.PS };
  const words = new Int32Array(2);
  const visit = (at: number, level: number) => {
    for (let i = 0; i < 512; i++) {
      words[0] = memory.load32(at + i * 8);
      if (words[0] === 0 || present.every((field) => field.get(words) === 0)) continue;
      words[1] = memory.load32(at + i * 8 + 4);
      const size = PAGE_SIZE * 512 ** (level - 1);
      if (level === 1 || large.get(words) === 1) found.set(size, (found.get(size) ?? 0) + 1);
      else visit(SECOND_STAGE_ENTRY.ADDR.get(words), level - 1);
    }
  };
  visit(table.root, table.levels);
  return found;
}
