/** Headers of recorded transcripts as machines: each configuration that was recorded, and the ones that have no model. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { groupType, reservedRegions } from "@iommukit/host-linux";
import { vfioOf } from "@iommukit/vfio-type1";
import { afterAll, describe, expect, it } from "vitest";
import { UsageError } from "../../src/errors.js";
import { loadMachine } from "../../src/machines/load-machine.js";

const folder = mkdtempSync(join(tmpdir(), "iommukit-machines-"));
let modules = 0;
afterAll(() => rmSync(folder, { recursive: true }));

const edu = (bdf: string, group: number) => ({ bdf, group, driver: "vfio-pci", vendor: "0x1234", device: "0x11e8" });

function machine(config: string, kernel = "6.12.117+deb12-amd64", devices: object = { A: edu("0000:00:05.0", 0) }) {
  const path = join(folder, "transcript.jsonl");
  const header = {
    op: "header",
    format: "vfio-transcript/1",
    kernel,
    version: "#1",
    machine: "x86_64",
    config,
    devices,
  };
  writeFileSync(path, JSON.stringify(header));
  return loadMachine(path);
}

describe("a transcript's header", () => {
  it.each([
    ["intel-cm39", "DMA", 1n << 39n, false],
    ["intel-cm39-faults", "DMA", 1n << 39n, false],
    ["intel-aw39", "DMA-FQ", 1n << 39n, false],
    ["intel-aw48-snoop", "DMA-FQ", 1n << 48n, false],
    ["intel-noir", "DMA", 1n << 39n, false],
    ["intel-noir-unsafe", "DMA", 1n << 39n, true],
    ["intel-pt", "identity", 1n << 39n, false],
    ["smmuv3", "DMA", 1n << 48n, false],
    ["smmuv3-pt", "identity", 1n << 48n, false],
  ])("%s is a machine with groups of type %s", async (config, type, end, unsafe) => {
    const { platform, kernel } = await machine(config);
    const device = platform.device("0000:00:05.0");
    const { group } = device;
    expect(group && groupType(group)).toBe(type);
    const domain = device.iommu?.ops.domainAlloc("unmanaged", device);
    expect(domain?.aperture.end).toBe(end - 1n);
    if (domain) device.iommu?.ops.domainFree(domain);
    expect(vfioOf(platform).params.allowUnsafeInterrupts).toBe(unsafe);
    expect(group && reservedRegions(group).at(-1)).toMatch(/ msi$/);
    expect(kernel).toEqual({ release: "6.12.117+deb12-amd64", version: "#1", machine: "x86_64" });
    expect(await platform.close()).toEqual([]);
  });

  it.each([
    ["6.1.192+deb12-amd64", "linux-6.1"],
    ["6.12.117+deb12-amd64", "linux-6.12"],
    ["7.3.4+deb13-amd64", "linux-7.3"],
  ])("of kernel %s answers as %s does", async (kernel, profile) => {
    const { platform } = await machine("intel-cm39", kernel);
    expect(vfioOf(platform).profile.name).toBe(profile);
    await platform.close();
  });

  it("shows functions that are in no group, and no IOMMU has them", async () => {
    const { platform, bystanders = [] } = await machine("noiommu", "6.12.117", { A: edu("0000:00:05.0", -1) });
    expect(bystanders.map(({ name, group, pci }) => [name, group, pci.readConfig(0, 4)])).toEqual([
      ["0000:00:05.0", undefined, 0x11e8_1234],
    ]);
    expect([...platform.devices.keys()]).toEqual([]);
    await platform.close();
  });

  it.each([
    ["amd", /the machine "amd" has AMD-Vi, which is not modelled$/],
    ["amd-unsafe", /has AMD-Vi, which is not modelled$/],
    ["virtio-iommu-unsafe", /has virtio-iommu, which is not modelled$/],
    ["intel-aw57", /"aw57" is no setting of intel; there are aw39, /],
    ["riscv", /no machine is called "riscv"; names begin with intel, smmuv3, noiommu$/],
  ])("%s is refused with the reason", async (config, reason) => {
    await expect(machine(config)).rejects.toThrow(reason);
  });

  it("with a device that has no model is refused", async () => {
    const gpu = { ...edu("0000:00:05.0", 0), vendor: "0x10de" };
    await expect(machine("smmuv3", "6.12.117", { A: gpu })).rejects.toThrow(
      "0000:00:05.0 is a device 0x10de:0x11e8, which is not modelled",
    );
  });

  it.each([
    [
      "a transcript of another kind",
      '{"op":"header","format":"vfio-transcript/2"}',
      /neither a module .* nor a vfio-transcript/,
    ],
    [
      "a header without devices",
      '{"op":"header","format":"vfio-transcript/1","kernel":"6","version":"","machine":"","config":"noiommu"}',
      /neither/,
    ],
    ["no JSON at all", "hello", /cannot read/],
  ])("%s is none", async (_what, text, reason) => {
    const path = join(folder, "other");
    writeFileSync(path, text);
    await expect(loadMachine(path)).rejects.toThrow(reason);
  });
});

describe("a module of the user's", () => {
  it.each([
    ["throws at import", 'throw new Error("no\\nway");', /^\S+module-\d\.mjs: no\nway \(file:\/\/\S+:\d+:\d+\)$/],
    ["is no JavaScript", "export default ( {", /^\S+module-\d\.mjs: \S/],
    [
      "fails",
      'export default async () => { throw new Error("no luck") };',
      /module-\d\.mjs: no luck \(file:\/\/\S+\)$/,
    ],
    ["throws nothing to speak of", "export default () => { throw undefined };", /module-\d\.mjs: undefined$/],
    ["returns nothing", "export default () => {};", /returned no platform$/],
    ["exports nothing", "export const machine = 1;", /has no default export that is a function/],
  ])("that %s is bad input", async (_what, code, says) => {
    const path = join(folder, `module-${modules++}.mjs`);
    writeFileSync(path, code);
    const error = await loadMachine(path).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UsageError);
    expect((error as Error).message).toMatch(says);
  });
});

it("a transcript whose devices have no address is none, and one at an address that is none is refused", async () => {
  await expect(machine("intel-cm39", "6.12.117", { A: null })).rejects.toThrow("nor a vfio-transcript/1");
  await expect(machine("intel-cm39", "6.12.117", { A: edu("zz", 0) })).rejects.toThrow(
    'EINVAL: "zz" is no PCI address',
  );
});
