/**
 * I-1, on pages: nobody uses a page that has been freed. Devices' data and hardware's table reads are looked at; freed pages stay
 * out of use for a while (the allocator's quarantine), so that a use meets the freed page and not its next owner.
 */
import { hex, PAGE_SIZE } from "@iommukit/core";
import type { CheckerFactory } from "./checker.js";

const pageOf = (pa: number) => Math.floor(pa / PAGE_SIZE);

export const freedMemory: CheckerFactory = ({ report }) => {
  /** Page number → whose it was. */
  const freed = new Map<number, string>();
  return {
    listeners: {
      "page:allocated": ({ address, pages }) => {
        for (let i = 0; i < pages; i++) freed.delete(pageOf(address) + i);
      },
      "page:freed": ({ address, pages, owner }) => {
        for (let i = 0; i < pages; i++) freed.set(pageOf(address) + i, owner);
      },
      "mm:misused": ({ owner }) =>
        report({ rule: "freed", what: `the mm_struct of ${owner} was used after its last reference had gone` }),
      // As KASAN does, objects that are poisoned say so themselves.
      "log:printed": ({ line }) => {
        if (line.startsWith("BUG: "))
          report({
            rule: "freed",
            what: line,
            should: "who waits for an object looks at nothing of it after it has gone",
          });
      },
      "dma:moved": ({ device, pasid, address, pa, length, write }) => {
        const owner = freed.get(pageOf(pa));
        if (owner === undefined) return;
        const what = `${device} ${write ? "wrote" : "read"} ${length} bytes at ${hex(pa)}, a freed page of ${owner}, through ${hex(address)} with PASID ${pasid}`;
        report({ rule: "I-1", what, should: "a page is freed when no IOTLB and no ATC can reach it any more" });
      },
      "table:read": ({ unit, table, address, value }) => {
        const owner = freed.get(pageOf(address));
        if (owner === undefined) return;
        const what = `${unit} read ${table} at ${hex(address)}, in a freed page of ${owner}: ${hex(value)}`;
        report({ rule: "I-1", what, should: "a table is freed when no cache leads to it any more" });
      },
    },
    begin: () => freed.clear(),
    end: () => {},
  };
};
