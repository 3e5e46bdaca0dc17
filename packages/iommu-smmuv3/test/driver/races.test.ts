import { Access, IommuProt, newGather, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { PRESETS } from "../../src/presets.js";
import { type Machine, machine } from "./machine.js";

const NONE = { sets: 0, ways: 0 };
/** Every transaction reads STE and CD from memory: whatever stands there shows. */
const uncached = {
  ...PRESETS["mmu-700-like"],
  caches: { ...PRESETS["mmu-700-like"].caches, ste: NONE, cd: NONE, l1: NONE },
};

/** Runs `body` whenever the driver lets others run between two stores to a live entry. */
function betweenStores(m: Machine, name: string, body: () => Promise<void> | void): () => void {
  const { scheduler } = m.platform;
  const before = scheduler.point.bind(scheduler);
  let inside = false;
  scheduler.point = async (point) => {
    if (point !== name || inside) return;
    inside = true;
    await body();
    inside = false;
  };
  return () => {
    scheduler.point = before;
  };
}

describe("a live STE is changed while transactions come (I-6, L-8)", () => {
  const faultsDuringMoves = async (variants: string[]) => {
    const m = await machine({ preset: uncached, variants });
    return m.run(async () => {
      const device = await m.plug("0000:00:05.0", { without: ["ats", "pri"] });
      const first = m.domainOf(device);
      const second = m.ops.domainAlloc("unmanaged", device.dev);
      const identity = m.ops.domainAlloc("identity", device.dev);
      const address = 0x1_0800_0000n;
      for (const domain of [first, second]) m.ops.map(domain, address, Number(address), 0x1000, 1, IommuProt.READ);
      const faults: string[] = [];
      const off = m.platform.trace.on("fault:recorded", ({ fault }) => void faults.push(fault));
      const results = new Set<number>();
      const restore = betweenStores(
        m,
        "entry store",
        () => void results.add(m.translate(device, address, Access.READ)[0]),
      );
      for (const domain of [identity, second, identity, first]) await m.ops.attachDev(domain, device.dev);
      restore();
      off();
      return { results: [...results], faults: [...new Set(faults)] };
    });
  };

  it("none of them sees an abort or half an entry between stage 1 and bypass", async () => {
    expect(await faultsDuringMoves([])).toEqual({ results: [TranslationStatus.OK], faults: [] });
  });

  it("the variant shows them half-written entries (L-8)", async () => {
    const { results, faults } = await faultsDuringMoves(["L-8"]);
    expect(results).toContain(TranslationStatus.FAULT);
    expect(faults.length).toBeGreaterThan(0);
  });
});

describe("ATS is enabled while another thread unmaps (L-2)", () => {
  const reachableAfterUnmap = async (variants: string[]) => {
    const m = await machine({ variants });
    return m.run(async () => {
      const one = await m.plug("0000:00:05.0", { without: ["ats"] });
      const two = await m.plug("0000:00:06.0");
      const domain = m.ops.domainAlloc("unmanaged", one.dev);
      await m.ops.attachDev(domain, one.dev);
      m.ops.map(domain, 0x1000n, 0x1_0800_0000, 0x1000, 1, IommuProt.READ);
      // The IOTLB has it, so that the unmap leaves a stale entry there until its invalidation.
      m.translate(one, 0x1000n, Access.READ);
      const gather = newGather();
      m.ops.unmap(domain, 0x1000n, 0x1000, 1, gather);
      let cached = false;
      const restore = betweenStores(m, "tables changed", async () => {
        await m.ops.attachDev(domain, two.dev);
        cached = m.ats(two, 0x1000n, Access.READ, -1)[1].read;
      });
      await m.ops.iotlbSync(domain, gather);
      restore();
      return { cached, told: two.pci.invalidations.some(({ lo }) => lo >>> 12 === 1) };
    });
  };

  it("the device is told about what it got from the stale IOTLB", async () => {
    expect(await reachableAfterUnmap([])).toEqual({ cached: true, told: true });
  });

  it("the variant counts the devices too early and leaves it with the page (L-2)", async () => {
    expect(await reachableAfterUnmap(["L-2"])).toEqual({ cached: true, told: false });
  });
});
