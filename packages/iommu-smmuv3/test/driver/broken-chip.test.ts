import { IommuProt } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { CR0, GBPA } from "../../src/spec/registers.js";
import { machine } from "./machine.js";

/** A chip that ignores writes to one register, or answers reads of it with something else. */
async function broken(offset: number, read?: (value: number) => number) {
  const m = await machine();
  await m.run(() => m.iommu.stop());
  m.log();
  const write = m.chip.write32.bind(m.chip);
  const get = m.chip.read32.bind(m.chip);
  m.chip.write32 = (at, value) => {
    if (at !== offset) write(at, value);
  };
  if (read) m.chip.read32 = (at) => (at === offset ? read(get(at)) : get(at));
  return m;
}

describe("hardware that does not answer", () => {
  it("is given up after a second, with the register's name, and nothing is kept", async () => {
    const m = await broken(CR0.offset);
    await m.run(async () => {
      const before = m.platform.scheduler.now;
      await expect(m.iommu.start()).rejects.toMatchObject({
        code: "ETIMEDOUT",
        message: expect.stringContaining("CR0ACK stays 0x0"),
      });
      expect(m.platform.scheduler.now - before).toBeLessThan(1_100_000_000);
    });
    expect(m.log()).toContain("arm-smmu-v3 smmuv3: failed to enable command queue");
    expect(m.platform.pages.usage().size).toBe(0);
  });

  it("whose GBPA.UPDATE stays set is still brought up", async () => {
    const m = await machine();
    const get = m.chip.read32.bind(m.chip);
    m.chip.read32 = (at) => (at === GBPA.offset ? 0x8000_0000 : get(at));
    await m.run(() => m.iommu.start());
    expect(m.log()).toContain("arm-smmu-v3 smmuv3: GBPA not responding to update");
  });

  it("that consumes no commands makes every wait end after a second, and fills the queue once", async () => {
    const m = await machine({ queueShift: 7 });
    await m.run(async () => {
      const device = await m.plug("0000:00:05.0", { without: ["ats"] });
      const domain = m.domainOf(device);
      m.log();
      m.platform.scheduler.kick = () => {};
      const codes = new Set<string>();
      for (let i = 0; i < 70; i++) {
        m.ops.map(domain, BigInt(i * 0x1000), 0x1_0800_0000, 0x1000, 1, IommuProt.READ);
        try {
          await m.unmap(domain, BigInt(i * 0x1000), 0x1000, 1);
        } catch (error) {
          codes.add((error as { code: string }).code);
        }
      }
      expect([...codes]).toEqual(["ETIMEDOUT"]);
      const log = m.log();
      expect(log[0]).toMatch(/CMD_SYNC timeout at 0x0000.... \[hwprod 0x0000...., hwcons 0x0000....\]$/);
      expect(log.at(-1)).toBe("arm-smmu-v3 smmuv3: CMDQ timeout");
    });
  });
});
