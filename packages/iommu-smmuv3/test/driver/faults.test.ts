import { Access, IommuProt, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { PRESETS } from "../../src/presets.js";
import { CMD_TLBI_NH_VA } from "../../src/spec/commands.js";
import { PRIQ_ENTRY } from "../../src/spec/page-requests.js";
import { CMDQ_CONS, EVENTQ_CONS, EVENTQ_PROD, IDR0, STRTAB_BASE } from "../../src/spec/registers.js";
import { type Machine, machine } from "./machine.js";

const { FAULT, OK, STALLED } = TranslationStatus;

async function settled(m: Machine): Promise<string[]> {
  await m.platform.scheduler.idle();
  return m.log().map((line) => line.replace("arm-smmu-v3 smmuv3: ", ""));
}

describe("event log", () => {
  it("prints what a 6.12 kernel prints for a write to an unmapped address", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      m.log();
      expect(m.translate(device, 0x20_0000n, Access.WRITE)[0]).toBe(FAULT);
      expect(await settled(m)).toEqual([
        "event 0x10 received:",
        "\t0x0000002800000010",
        "\t0x0000020000000000",
        "\t0x0000000000200000",
        "\t0x0000000000000000",
      ]);
    });
  });

  it("hears of events by wire as well as by message", async () => {
    for (const messageInterrupts of [true, false]) {
      const m = await machine({ messageInterrupts });
      await m.run(async () => {
        const device = await m.plug();
        m.log();
        m.translate(device, 0x1000n, Access.READ);
        expect(await settled(m)).toHaveLength(5);
      });
      expect(await m.platform.close()).toEqual([]);
    }
  });

  it("decodes events as newer kernels do", async () => {
    const m = await machine({ decodeEvents: true });
    await m.run(async () => {
      const device = await m.plug();
      m.ops.map(m.domainOf(device), 0x1000n, 0x1_0800_0000, 0x1000, 1, IommuProt.READ);
      m.log();
      m.translate(device, 0x1008n, Access.WRITE);
      expect((await settled(m)).slice(5)).toEqual([
        "event: F_PERMISSION client: 0000:00:05.0 sid: 0x28 ssid: 0x0 iova: 0x1008 ipa: 0x0",
        'unpriv data write s1 "Input address caused fault" stag: 0x0',
      ]);
      m.translate({ ...device, dev: { rid: 0x99 } as never }, 0n, Access.READ);
      expect(await settled(m)).toEqual([]);
      m.translate({ ...device, dev: { rid: 0x100_0000 } as never }, 0n, Access.READ);
      expect((await settled(m)).at(-1)).toBe("event: C_BAD_STREAMID client: (unassigned sid) sid: 0x1000000 ssid: 0x0");
    });
  });

  it("prints the address of a fetch that aborted", async () => {
    const m = await machine({ decodeEvents: true });
    await m.run(async () => {
      const device = await m.plug();
      const { memory } = m.platform;
      const base = STRTAB_BASE.ADDR.getBig(Int32Array.of(m.chip.read32(0x80) | 0, m.chip.read32(0x84) | 0));
      // Level 1 entry of StreamIDs 0x100 to 0x1ff: its table is where nobody answers.
      memory.store64(Number(base) + 8, 0xf000, 9);
      m.log();
      m.translate({ ...device, dev: { rid: 0x101 } as never }, 0n, Access.READ);
      expect((await settled(m)).at(-1)).toBe(
        "event: F_STE_FETCH client: (unassigned sid) sid: 0x101 ssid: 0x0 fetch_addr: 0xf00000000040",
      );
    });
  });

  it("prints ten events in five seconds, and then how many it did not (printk rate limit)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      m.log();
      for (let i = 0; i < 16; i++) m.translate(device, BigInt(0x20_0000 + 4 * i), Access.WRITE);
      expect((await settled(m)).filter((line) => line.startsWith("event"))).toHaveLength(10);
      await m.platform.scheduler.sleep(6_000_000_000);
      m.translate(device, 0n, Access.READ);
      expect((await settled(m)).slice(0, 2)).toEqual([
        "arm_smmu_evtq_thread: 6 callbacks suppressed",
        "event 0x10 received:",
      ]);
    });
  });

  it("says when events were lost, and goes on", async () => {
    const m = await machine({ queueShift: 7 });
    await m.run(async () => {
      const device = await m.plug();
      m.log();
      for (let i = 0; i < 300; i++) m.translate(device, 0x1000n, Access.WRITE);
      expect(await settled(m)).toContain("EVTQ overflow detected -- events lost");
      expect(EVENTQ_CONS.OVACKFLG.get(Int32Array.of(m.chip.read32(EVENTQ_CONS.offset) | 0))).toBe(1);
      await m.platform.scheduler.sleep(6_000_000_000);
      m.translate(device, 0x1000n, Access.WRITE);
      expect(await settled(m)).toContain("event 0x10 received:");
      expect(EVENTQ_PROD.OVFLG.get(Int32Array.of(m.chip.read32(EVENTQ_PROD.offset) | 0))).toBe(1);
    });
  });
});

describe("stalled faults (E17, G33)", () => {
  it("are handled by the process and retried", async () => {
    const m = await machine({ canStall: () => true });
    await m.run(async () => {
      const device = await m.plug("0000:00:05.0", { without: ["ats", "pri"] });
      const mm = m.process();
      const address = await mm.mmap({ length: 0x1000 });
      const pasid = await m.share(device, mm);
      const [status, , stag] = m.translate(device, address, Access.WRITE, pasid);
      expect(status).toBe(STALLED);
      await m.platform.scheduler.idle();
      expect(device.pci.resolved).toEqual([`retry ${stag}`]);
      expect(m.translate(device, address, Access.WRITE, pasid)[0]).toBe(OK);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("end with an abort when the process has no such page, or nobody handles them", async () => {
    const m = await machine({ canStall: () => true });
    await m.run(async () => {
      const device = await m.plug("0000:00:05.0", { without: ["ats", "pri"] });
      const pasid = await m.share(device, m.process());
      const bad = m.translate(device, 0x1000n, Access.READ, pasid)[2];
      await m.platform.scheduler.idle();
      expect(device.pci.resolved).toEqual([`abort ${bad}`]);
      await m.platform.sva.iommuSvaDeviceShutdown(device.dev);
      m.log();
      const dma = m.translate(device, 0x1000n, Access.READ)[2];
      expect((await settled(m))[0]).toBe("event 0x10 received:");
      expect(device.pci.resolved.at(-1)).toBe(`abort ${dma}`);
    });
  });

  it("may be off for one device of a domain and on for another; the variant gives the one an ILLEGAL CD (S-16)", async () => {
    const events = async (variants: string[]) => {
      const m = await machine({ variants, canStall: (bdf) => bdf === "0000:00:05.0" });
      return m.run(async () => {
        const stalling = await m.plug("0000:00:05.0", { without: ["ats", "pri"] });
        const other = await m.plug("0000:00:06.0", { without: ["ats", "pri"] });
        const domain = m.ops.domainAlloc("unmanaged", stalling.dev);
        for (const { dev } of [stalling, other]) {
          if (dev.group?.domain) await m.ops.detachDev(dev.group.domain, dev);
          await m.ops.attachDev(domain, dev);
        }
        m.log();
        m.translate(other, 0x1000n, Access.READ);
        return (await settled(m))[0];
      });
    };
    expect(await events([])).toBe("event 0x10 received:");
    expect(await events(["S-16"])).toBe("event 0x0a received:");
  });

  it("are not disabled in the STE where there are none: the variant's S1STALLD is ILLEGAL (L-26)", async () => {
    const words = Int32Array.of(PRESETS["mmu-700-like"].idr0);
    IDR0.STALL_MODEL.set(words, 0, 1);
    const preset = { ...PRESETS["mmu-700-like"], idr0: words[0] };
    const events = async (variants: string[]) => {
      const m = await machine({ variants, preset });
      return m.run(async () => {
        const device = await m.plug();
        m.log();
        m.translate(device, 0x1000n, Access.READ);
        return (await settled(m))[0];
      });
    };
    expect(await events([])).toBe("event 0x10 received:");
    expect(await events(["L-26"])).toBe("event 0x04 received:");
  });
});

describe("command queue errors (G29)", () => {
  it("turns an illegal command into a CMD_SYNC and goes on", async () => {
    const m = await machine({ disableMsiPolling: true });
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.domainOf(device);
      m.ops.map(domain, 0x1000n, 0x1_0800_0000, 0x1000, 1, IommuProt.READ);
      m.log();
      // The slot that the next command takes, scribbled over after it was filled.
      const { memory, scheduler } = m.platform;
      const at = m.chip.read64(0x90);
      const slot = Number(at & 0xf_ffff_ffff_ffe0n) + 16 * (m.chip.read32(CMDQ_CONS.offset) % 4096);
      const point = scheduler.point.bind(scheduler);
      scheduler.point = (name) => {
        if (name === "cmdq store" && (memory.load32(slot) & 0xff) === 0x12) memory.store32(slot, 0xff);
        return point(name);
      };
      await m.unmap(domain, 0x1000n, 0x1000, 1);
      const log = await settled(m);
      expect(log.slice(0, 3)).toEqual([
        "unexpected global error reported (0x00000001), this could be serious",
        expect.stringMatching(/^CMDQ error \(cons 0x[0-9a-f]{8}\): Illegal command$/),
        "skipping command in error state:",
      ]);
      expect(log[3]).toBe("\t0x00010000000000ff");
      expect(CMDQ_CONS.ERR.get(Int32Array.of(m.chip.read32(CMDQ_CONS.offset) | 0))).toBe(1);
    });
  });

  it("survives a device that never completes an ATC invalidation, in bounded time (L-24, I13, E18)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.domainOf(device);
      m.ops.map(domain, 0x1000n, 0x1_0800_0000, 0x1000, 1, IommuProt.READ);
      m.log();
      device.pci.silent = true;
      const before = m.platform.scheduler.now;
      await m.unmap(domain, 0x1000n, 0x1000, 1);
      expect(m.platform.scheduler.now - before).toBeLessThan(3_000_000_000);
      expect((await settled(m)).some((line) => line.startsWith("CMD_SYNC timeout at"))).toBe(true);
      // When the chip gives the function up, the queue goes on.
      await m.platform.scheduler.sleep(120_000_000_000);
      expect((await settled(m)).some((line) => line.includes("ATC invalidate timeout"))).toBe(true);
      device.pci.silent = false;
      m.ops.map(domain, 0x1000n, 0x1_0800_0000, 0x1000, 1, IommuProt.READ);
      expect(await m.commands(() => m.unmap(domain, 0x1000n, 0x1000, 1))).toContain("TLBI_NH_VA");
    });
  });

  it("takes commands of many threads at once, whole and in order (G39)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { scheduler } = m.platform;
      // Every store lets all other threads run.
      scheduler.point = () => scheduler.yield();
      const device = await m.plug("0000:00:05.0", { without: ["ats"] });
      const domain = m.domainOf(device);
      const seen: bigint[] = [];
      const off = m.platform.trace.on("command:consumed", ({ command, words }) => {
        if (command === "CMD_TLBI_NH_VA")
          seen.push(CMD_TLBI_NH_VA.Address.getBig(Int32Array.from(words, (word) => word | 0)));
      });
      let running = 24;
      for (let thread = 0; thread < 24; thread++) {
        scheduler.spawn(`unmapper ${thread}`, async () => {
          for (let round = 0; round < 20; round++) {
            const iova = BigInt(thread * 0x100_0000 + round * 0x1000);
            m.ops.map(domain, iova, 0x1_0800_0000, 0x1000, 1, IommuProt.READ);
            await m.unmap(domain, iova, 0x1000, 1);
            expect(seen).toContain(iova);
          }
          running--;
        });
      }
      while (running > 0) await scheduler.sleep(1_000_000);
      off();
      expect(seen).toHaveLength(480);
      for (let thread = 0; thread < 24; thread++) {
        const own = seen.filter((iova) => iova >> 24n === BigInt(thread));
        expect(own).toEqual([...own].sort((a, b) => (a < b ? -1 : 1)));
      }
    });
  });
});

describe("flushing the event queue (E10, S30)", () => {
  it("ends after one round of the queue, however many events come meanwhile", async () => {
    const m = await machine({ queueShift: 7 });
    await m.run(async () => {
      const device = await m.plug("0000:00:05.0", { without: ["ats", "pri"] });
      const { scheduler } = m.platform;
      let events = 0;
      const fault = () => {
        events++;
        m.translate(device, 0x1000n, Access.READ);
      };
      scheduler.point = async (name) => {
        if (name === "evtq record" && events < 10_000) fault();
      };
      for (let i = 0; i < 100; i++) fault();
      // Releasing the device waits until what it has sent is handled.
      await m.platform.unplug("0000:00:05.0");
      expect(events).toBeLessThan(100 + 5 * 128);
      events = 10_000;
      await scheduler.idle();
    });
  });

  it("waits for what is in the queue: nothing is left afterwards", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug("0000:00:05.0", { without: ["ats", "pri"] });
      for (let i = 0; i < 100; i++) m.translate(device, 0x1000n, Access.READ);
      await m.platform.unplug("0000:00:05.0");
      expect(m.chip.read32(EVENTQ_CONS.offset)).toBe(m.chip.read32(EVENTQ_PROD.offset));
    });
  });
});

describe("PRIQ entries (S-13)", () => {
  it("give every bit of the StreamID and SubstreamID", () => {
    for (let bit = 0; bit < 32; bit++) {
      const entry = PRIQ_ENTRY.encode({ StreamID: 2 ** bit, SubstreamID: 2 ** Math.min(bit, 19), SSV: true });
      expect([PRIQ_ENTRY.StreamID.get(entry), PRIQ_ENTRY.SubstreamID.get(entry)]).toEqual([
        2 ** bit,
        2 ** Math.min(bit, 19),
      ]);
    }
  });
});
