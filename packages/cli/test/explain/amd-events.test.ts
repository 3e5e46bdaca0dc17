/** Every event of AMD's log in the forms that Linux and Xen print; what they mean from AMD 48882 2.5. */
import { describe, expect, it } from "vitest";
import { Explainer } from "../../src/explain/explainer.js";
import type { ExplainRecord } from "../../src/explain/record.js";

function explained(...input: string[]): ExplainRecord[] {
  const records: ExplainRecord[] = [];
  const explainer = new Explainer((record) => records.push(record));
  for (const line of input) explainer.line(line);
  explainer.end();
  return records;
}

const fields = (record: ExplainRecord) =>
  Object.fromEntries(record.parts.flatMap((part) => part.fields).map(({ name, value }) => [name, value]));

describe("Linux's forms", () => {
  const logged = (text: string) => explained(`[    1.0] pci 0000:00:00.2: AMD-Vi: Event logged [${text}]`);

  it.each([
    [
      "ILLEGAL_DEV_TABLE_ENTRY device=0000:03:00.0 pasid=0x00000 address=0xfffffffdf8000000 flags=0x01a0",
      0xfffffffdf8000000n,
    ],
    ["DEV_TAB_HARDWARE_ERROR device=0000:03:00.0 address=0x12345000 flags=0x0600", 0x12345000n],
    ["PAGE_TAB_HARDWARE_ERROR device=0000:03:00.0 pasid=0x00000 address=0xcf000000 flags=0x0200", 0xcf000000n],
    [
      "INVALID_PPR_REQUEST device=0000:03:00.0 pasid=0x00000 address=0x7f0000001000 flags=0x0a00 tag=0x01f",
      0x7f0000001000n,
    ],
    ["RMP_PAGE_FAULT device=0000:03:00.0, vmg_tag=0x0001, gpa=0xfe000000, flags_rmp=0x0001, flags=0x0020", 0xfe000000n],
    ["RMP_HW_ERROR device=0000:03:00.0, vmg_tag=0x0001, spa=0xfe000000, flags=0x0000", 0xfe000000n],
  ])("%s: the device in brackets, not the IOMMU that prints", (text, address) => {
    const [record, ...more] = logged(text);
    expect(more).toEqual([]);
    expect(record.kind).toBe("amd-vi.event");
    expect(record.notes).toEqual([]);
    expect(record.facts).toMatchObject({ name: text.split(" ")[0], device: "0000:03:00.0", sid: 0x300, address });
    expect(record.facts.pasid).toBeUndefined();
  });

  it("commands belong to no device", () => {
    const [record] = explained("[    1.0] AMD-Vi: Event logged [ILLEGAL_COMMAND_ERROR address=0x0000000012345000]");
    expect(record.facts).toMatchObject({ name: "ILLEGAL_COMMAND_ERROR", device: undefined, address: 0x12345000n });
  });

  it("flags of hardware errors: bits 10:9 are the type", () => {
    expect(fields(logged("DEV_TAB_HARDWARE_ERROR device=03:00.0 address=0x0 flags=0x0628")[0])).toMatchObject({
      I: "0x1",
      RW: "0x1",
      TR: "0x0",
      Type: "0x3 (data error)",
    });
    expect(
      fields(logged("PAGE_TAB_HARDWARE_ERROR device=03:00.0 pasid=0x00001 address=0x0 flags=0x0301")[0]),
    ).toMatchObject({
      GN: "0x1",
      TR: "0x1",
      Type: "0x1 (master abort)",
    });
  });

  it("an event that Linux does not know is taken by its words", () => {
    const [record] = logged(
      "UNKNOWN event[0]=0x00000300, event[1]=0x30200000, event[2]=0x12345000, event[3]=0x00000001",
    );
    expect(record.facts).toMatchObject({
      name: "DEV_TAB_HARDWARE_ERROR",
      device: "0000:03:00.0",
      address: 0x1_1234_5000n,
    });
    expect(logged("UNKNOWN event[0]=0x1, event[1]=0xf0000000, event[2]=0x0, event[3]=0x0")).toEqual([]);
  });
});

describe("Xen's forms", () => {
  it.each([
    ["AMD-Vi: IO_PAGE_FAULT: domain = 0, device id = 0xa0, fault address = 0xfdf8020200", undefined],
    ["AMD-Vi: IO_PAGE_FAULT: domain = 0, device id = 0x00a0, fault address = 0xfdf8020200, flags = 0x030", "write"],
    ["AMD-Vi: IO_PAGE_FAULT 000000a0 20300000 f8020200 000000fd", "write"],
  ])("%s", (text, access) => {
    const [record, ...more] = explained(`(XEN) ${text}`);
    expect(more).toEqual([]);
    expect(record.facts).toMatchObject({ name: "IO_PAGE_FAULT", device: "0000:00:14.0", address: 0xfdf8020200n });
    expect(record.facts.access).toBe(access);
  });

  it("words: the code is in bits 31:28 of the second, the type of an invalid request in bits 27:25", () => {
    const [record] = explained("(XEN) AMD-Vi: INVALID_DEV_REQUEST 00000800 8a000000 f8000840 000000fd");
    expect(record.kind).toBe("amd-vi.invalid-device-request");
    expect(record.facts).toMatchObject({ device: "0000:08:00.0", address: 0xfd_f800_0840n });
    expect(fields(record)).toMatchObject({ Type: "0x5" });
  });

  it("VT-d faults of old versions, with the source file's name and a reason in brackets", () => {
    const [record] = explained(
      "(XEN) [VT-D]iommu.c:822: DMAR:[DMA Write] Request device [02:00.0] fault addr d7f80000, iommu reg = ffff82c3ffd57000",
      "(XEN) DMAR:[fault reason 05h] PTE Write access is not set",
    );
    expect(record.facts).toMatchObject({ code: 5, device: "0000:02:00.0", access: "write", address: 0xd7f80000n });
  });
});
