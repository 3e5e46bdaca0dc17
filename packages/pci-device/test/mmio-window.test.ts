import { AddressDecoder, type MemoryRegion, SlabMemory } from "@iommukit/core";
import { expect, it } from "vitest";
import { MmioWindow } from "../src/mmio-window.js";

it("BARs are placed where nothing is: not over RAM either, wherever in them it begins", () => {
  const size = 0x1000_0000;
  const regions: MemoryRegion[] = [
    { base: 0, size: 0x1000 },
    { base: 0xc800_0000, size: 0x1000 },
  ];
  const window = MmioWindow.of(new AddressDecoder(new SlabMemory(regions)));
  const places = [0, 1].map(() => window.allocate({ index: 0, kind: "mem32", size, prefetchable: false }));
  expect(places).toEqual([0xd000_0000, 0xe000_0000]);
});
