/** Walks over tables that are written word by word here: each step with address and raw value, and where it stops. */
import { describe, expect, it } from "vitest";
import { walkSmmu } from "../../src/explain/walk/smmu-walk.js";
import { walkVtd } from "../../src/explain/walk/vtd-walk.js";

function memory(words: Readonly<Record<number, bigint>>) {
  return { read64: (address: bigint) => (address < 0x10_0000n ? (words[Number(address)] ?? 0n) : undefined) };
}

describe("a VT-d walk in legacy mode", () => {
  const tables = memory({
    4096: 0x2001n, // root[0]: P, context table 0x2000
    [0x2000 + 0x28 * 16]: 0x3001n, // context[00:05.0]: P, second stage 0x3000
    [0x2000 + 0x28 * 16 + 8]: 0x0102n, // AW 48 bits, domain-id 1
    12288: 0x4003n,
    16384: 0x5003n,
    20488: 0x6003n, // L2[001]
    24576: 0x9001n, // L1[000]: readable only
  });
  const request = { rid: 0x28, pasid: undefined, address: 0x20_0000n } as const;

  it("prints each entry and ends at the page", () => {
    const walk = walkVtd(tables, 0x1000n, { ...request, access: "read" });
    expect(walk.steps.map(({ name, address, words }) => `${name} @ ${address} = ${words[0]}`)).toEqual([
      "root[000] @ 0x1000 = 0x0000000000002001",
      "context[028] @ 0x2280 = 0x0000000000003001",
      "L4[000] @ 0x3000 = 0x0000000000004003",
      "L3[000] @ 0x4000 = 0x0000000000005003",
      "L2[001] @ 0x5008 = 0x0000000000006003",
      "L1[000] @ 0x6000 = 0x0000000000009001",
    ]);
    expect(walk.output).toBe("0x9000");
  });

  it("says which entry refuses a write, and which one is missing", () => {
    expect(walkVtd(tables, 0x1000n, { ...request, access: "write" }).verdict).toContain(
      "level 1 entry does not allow the write",
    );
    expect(walkVtd(tables, 0x1000n, { ...request, access: "read", address: 0x40_0000n }).verdict).toContain(
      "level 2 entry is not present (fault 0x06",
    );
    expect(walkVtd(tables, 0x1000n, { ...request, access: "read", rid: 0x100 }).verdict).toContain(
      "root entry not present (fault 0x01)",
    );
    expect(walkVtd(tables, 0x1000n, { ...request, access: "read", address: 1n << 48n }).verdict).toContain(
      "more than 48 bits",
    );
  });

  it("ends where no image holds the entry", () => {
    expect(walkVtd(tables, 0x40_0000n, { ...request, access: "read" }).verdict).toBe(
      "root[000] @ 0x400000 is in no --memory image",
    );
  });
});

describe("a VT-d walk in scalable mode", () => {
  const tables = memory({
    4096: 0x2001n, // root[0]: LP, lower context table
    [0x2000 + 0x28 * 32]: 0x3009n, // P, PASIDE, directory of 128 entries
    12288: 0x4001n,
    [0x4000 + 2 * 64]: 0x0049n, // PASID 2: P, first stage, AW
    [0x4000 + 2 * 64 + 8]: 7n,
    [0x4000 + 2 * 64 + 16]: 0x5000n,
    20480: 0x6007n,
    24576: 0x7007n,
    28672: 0x8007n,
    32768: 0n,
  });

  it("goes through the PASID tables and stops at the page that is not present", () => {
    const walk = walkVtd(tables, 0x1400n, { rid: 0x28, pasid: 2, address: 0x123n, access: "write" });
    expect(walk.steps.map(({ name }) => name)).toEqual([
      "root[000]",
      "context[028]",
      "PASID directory[000]",
      "PASID entry[002]",
      "L4[000]",
      "L3[000]",
      "L2[000]",
      "L1[000]",
    ]);
    expect(walk.verdict).toBe("stops: level 1 entry not present (fault 0x71)");
    expect(walkVtd(tables, 0x1400n, { rid: 0x28, pasid: 3, address: 0n, access: "read" }).verdict).toContain(
      "PASID entry not present (fault 0x59)",
    );
  });
});

describe("an SMMUv3 walk", () => {
  const tables = memory({
    [0x1000 + 0x28 * 64]: 0x200bn, // STE: V, Config s1, S1ContextPtr 0x2000
    8192: (1n << 31n) | (1n << 41n) | 25n, // CD: V, AA64, T0SZ 25 (39 bits)
    8200: 0x3000n,
    12288: 0x4003n,
    16392: 0x5003n, // L2[001]
    20480: 0x0060_0000_0000_9f43n | 0x80n, // L3[000]: read-only, AF
  });
  const request = { sid: 0x28, ssid: undefined, address: 0x20_0010n } as const;
  const walk = (change: object) => walkSmmu(tables, 0x1000n, 8, { ...request, access: "read", ...change });

  it("prints each entry and ends at the page", () => {
    expect(walk({}).steps.map(({ name, address }) => `${name} @ ${address}`)).toEqual([
      "STE[028] @ 0x1a00",
      "CD[000] @ 0x2000",
      "L1[000] @ 0x3000",
      "L2[001] @ 0x4008",
      "L3[000] @ 0x5000",
    ]);
    expect(walk({}).output).toBe("0x9010");
  });

  it("names the event that each stop makes", () => {
    expect(walk({ access: "write" }).verdict).toContain("F_PERMISSION");
    expect(walk({ address: 0n }).verdict).toBe("stops: level 2 descriptor is invalid (F_TRANSLATION)");
    expect(walk({ address: 1n << 40n }).verdict).toContain("outside of 39 bits");
    expect(walk({ sid: 0x29 }).verdict).toBe("stops: STE.V = 0 (C_BAD_STE)");
    expect(walk({ sid: 0x100 }).verdict).toContain("C_BAD_STREAMID");
    expect(walk({ ssid: 1 }).verdict).toContain("C_BAD_SUBSTREAMID");
  });
});
