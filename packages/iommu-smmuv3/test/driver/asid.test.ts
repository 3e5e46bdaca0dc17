import { IommuError, type Mm } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { Identifiers, MmContexts } from "../../src/driver/asid.js";

const mm = (owner: string) => ({ owner }) as Mm;

describe("ASIDs and VMIDs", () => {
  it("are given out lowest first, until all are in use: ENOSPC", () => {
    const ids = new Identifiers<string>("VMID", 3);
    expect(["a", "b", "c", "d", "e", "f", "g"].map((owner) => ids.alloc(owner))).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(() => ids.alloc("h")).toThrow(new IommuError("ENOSPC", "all 7 VMIDs are in use"));
    ids.free(5);
    ids.free(2);
    expect([ids.alloc("h"), ids.alloc("i"), ids.owner(2), ids.owner(5)]).toEqual([2, 5, "h", "i"]);
  });

  it("pass over one that a process has taken", () => {
    const ids = new Identifiers<string>("ASID", 8);
    ids.take(1, "process");
    ids.take(2, "process");
    expect(ids.alloc("domain")).toBe(3);
  });
});

describe("pinned ASIDs (arm64_mm_context_get, B12)", () => {
  it("stay with the address space until the last put", () => {
    const contexts = new MmContexts(8);
    const [a, b] = [mm("a"), mm("b")];
    expect([contexts.get(a), contexts.get(a), contexts.get(b), contexts.pinned]).toEqual([1, 1, 2, 2]);
    contexts.put(a);
    expect(contexts.get(mm("c"))).toBe(3);
    contexts.put(a);
    expect(contexts.get(mm("d"))).toBe(1);
    contexts.put(a);
    expect(contexts.pinned).toBe(3);
  });

  it("leave one for each CPU, the kernel's, and 0: then ENOSPC", () => {
    const contexts = new MmContexts(3, 2);
    expect(contexts.limit).toBe(4);
    for (const owner of ["a", "b", "c", "d"]) contexts.get(mm(owner));
    expect(() => contexts.get(mm("e"))).toThrow("ENOSPC: e: 4 ASIDs of 3 bits are pinned already");
  });
});
