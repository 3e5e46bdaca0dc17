import { NO_PASID } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { atcInv, cfgiAll, cfgiCd, prefetchConfig, priResp, resume, tlbiAsid } from "../../src/driver/commands.js";
import { CMD_ATC_INV, CMD_PREFETCH_CONFIG } from "../../src/spec/commands.js";

const doublewords = (command: Int32Array) =>
  [0, 2].map((i) => ((BigInt(command[i + 1] >>> 0) << 32n) | BigInt(command[i] >>> 0)).toString(16));

describe("CMD_ATC_INV (G26, S35)", () => {
  const cover = (start: bigint, size: bigint) => {
    const command = atcInv(0x10, 5, start, size);
    return [CMD_ATC_INV.Address.getBig(command), CMD_ATC_INV.Size.get(command)];
  };

  it("covers a range with the smallest aligned power of two", () => {
    expect(cover(0x8000n, 0x4000n)).toEqual([0x8000n, 2]);
    expect(cover(0x7000n, 0x4000n)).toEqual([0n, 4]);
    expect(cover(0x5000n, 0x1000n)).toEqual([0x5000n, 0]);
    expect(cover(0x5fffn, 2n)).toEqual([0x4000n, 2]);
  });

  it("names the whole address space with Size = 52", () => {
    expect(cover(0n, 0n)).toEqual([0n, 52]);
    expect(cover(0n, 1n << 64n)).toEqual([0n, 52]);
  });

  it("carries a SubstreamID only when there is one", () => {
    expect(doublewords(atcInv(0x10, NO_PASID, 0n, 0n))).toEqual(["1000000040", "34"]);
    expect(doublewords(atcInv(0x10, 5, 0n, 0n))).toEqual(["1000005840", "34"]);
  });
});

describe("command encodings (G24, G25, G27)", () => {
  it("are those of the specification", () => {
    expect(doublewords(cfgiAll())).toEqual(["4", "1f"]);
    expect(doublewords(cfgiCd(3, 7, true))).toEqual(["300007005", "1"]);
    expect(doublewords(tlbiAsid(0xabcd))).toEqual(["abcd000000000011", "0"]);
    expect(doublewords(priResp(0x10, 5, 0x1ff, "success"))).toEqual(["1000005841", "21ff"]);
    expect(doublewords(priResp(0x10, NO_PASID, 3, "denied"))).toEqual(["1000000041", "3"]);
    expect(doublewords(resume(0x10, 0xbeef, true))).toEqual(["1000001044", "beef"]);
    expect(doublewords(resume(0x10, 1, false))).toEqual(["1000002044", "1"]);
  });

  it("leave the reserved bits of CMD_PREFETCH_CONFIG zero (L-29)", () => {
    expect(CMD_PREFETCH_CONFIG.reservedViolated(prefetchConfig(0x10))).toBe(false);
  });
});
