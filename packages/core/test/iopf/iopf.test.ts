import { describe, expect, it } from "vitest";
import { type Device, FaultPerm, type FaultResult, type IopfFault, NO_PASID } from "../../src/index.js";
import { type FakeMm, vma } from "../sva/fake-mm.js";
import { IOPF, type Machine, machine } from "../sva/machine.js";

const { READ, WRITE, EXEC, PRIV } = FaultPerm;
/** Of FakeMm: read-write, read-only, executable. */
const [RW, RO, RX] = [0x10000n, 0x20000n, 0x30000n];

async function bound(bugs: readonly string[] = []) {
  const m = machine(bugs);
  return m.run(async () => {
    const dev = await m.svaDevice();
    const process = m.mm();
    const pasid = await m.sva.bindDeviceLocked(dev, process, IOPF);
    m.ops.calls.length = 0;
    const fault = (grpid: number, address: bigint, more: Partial<IopfFault> = {}): IopfFault => ({
      pasid,
      grpid,
      address,
      perm: READ,
      last: true,
      responseNeedsPasid: true,
      ...more,
    });
    const report = (...faults: IopfFault[]) => {
      for (const one of faults) m.sva.report(dev, one);
    };
    const answers = () => m.ops.responses.map(({ grpid, code }) => `${grpid} ${code}`);
    return { ...m, dev, process, pasid, fault, report, answers };
  });
}

describe("iopf queue", () => {
  it("parks requests that are not the last, and lets the last collect those of its group and device (E1) (E2)", async () => {
    const { run, sva, scheduler, svaDevice, dev, process, fault, report, answers } = await bound();
    await run(async () => {
      const other = await svaDevice("0000:02:00.0");
      await sva.bindDeviceLocked(other, process, IOPF);
      report(fault(1, RW, { last: false }), fault(2, RO, { last: false }), fault(1, RW + 0x1000n, { last: false }));
      sva.report(other, fault(1, RX, { last: false }));
      expect(sva.inUse().partials).toBe(4);
      report(fault(1, RW + 0x2000n));
      await scheduler.idle();
      expect(process.faults).toEqual(["0x10000 1", "0x11000 1", "0x12000 1"]);
      expect(answers()).toEqual(["1 success"]);
      expect(sva.inUse().partials).toBe(2);
      expect(dev.name).toBe("0000:01:00.0");
    });
  });

  it("keeps requests of another PASID with the same group index apart (E2)", async () => {
    const { run, sva, scheduler, dev, process, mm, pasid, fault, report } = await bound();
    await run(async () => {
      const second = mm();
      const other = await sva.bindDeviceLocked(dev, second, IOPF);
      report(fault(1, RW, { last: false }), fault(1, RX, { last: false, pasid: other }), fault(1, RW + 0x1000n));
      await scheduler.idle();
      expect(process.faults).toEqual(["0x10000 1", "0x11000 1"]);
      expect(second.faults).toEqual([]);
      expect(pasid).not.toBe(other);
    });
  });

  it("handles groups out of order, and the requests of each in order (E3)", async () => {
    const { run, sva, scheduler, dev, process, mm, fault, report, answers } = await bound();
    await run(async () => {
      const quick = mm();
      const other = await sva.bindDeviceLocked(dev, quick, IOPF);
      process.faultDelay = 1000;
      report(fault(1, RW, { last: false }), fault(1, RO), fault(2, RX, { pasid: other }));
      await scheduler.sleep(5000);
      expect(answers()).toEqual(["2 success", "1 success"]);
      expect(process.faults).toEqual(["0x10000 1", "0x20000 1"]);
    });
  });

  it("stops at the first failure, whose code is the group's (E4)", async () => {
    const { run, scheduler, process, fault, report, answers } = await bound();
    await run(async () => {
      report(fault(1, RW, { last: false }), fault(1, RO, { last: false, perm: WRITE }), fault(1, RW + 0x1000n));
      await scheduler.idle();
      expect(process.faults).toEqual(["0x10000 1"]);
      expect(answers()).toEqual(["1 invalid"]);
    });
  });

  it("answers once per group, with the identity of its last request, and never a request alone (E5) (I-2)", async () => {
    const { run, ops, scheduler, pasid, fault, report } = await bound();
    await run(async () => {
      report(fault(9, RW, { last: false }));
      await scheduler.idle();
      expect(ops.responses).toEqual([]);
      report(fault(9, RO, { responseNeedsPasid: false }));
      await scheduler.idle();
      const response = { pasid, grpid: 9, code: "success", responseNeedsPasid: false, device: "0000:01:00.0" };
      expect(ops.responses).toEqual([response]);
    });
  });

  it("answers with SUCCESS, INVALID and FAILURE for what they are for (E6)", async () => {
    const { run, scheduler, kernel, fault, report, answers } = await bound();
    await run(async () => {
      report(fault(1, RW), fault(2, 0x9_0000n));
      kernel.allocationFails = (what) => what === "iopf_group";
      report(fault(3, RW));
      await scheduler.idle();
      expect(answers().toSorted()).toEqual(["1 success", "2 invalid", "3 failure"]);
    });
  });

  it("flushes the hardware queue first, then waits for the work that came out of it (E9)", async () => {
    const { run, sva, scheduler, dev, pasid, process, fault, answers } = await bound();
    await run(async () => {
      process.faultDelay = 500;
      const order: string[] = [];
      sva.registerQueueFlush(dev, async () => {
        await scheduler.sleep(100);
        order.push("hardware queue");
        sva.report(dev, fault(1, RW));
      });
      await sva.flushDevice(dev, pasid);
      expect(order).toEqual(["hardware queue"]);
      expect(answers()).toEqual(["1 success"]);
      expect(scheduler.now).toBe(600);
    });
  });

  it("ignores a stop marker that a driver did not discard: no answer, and the group stays open (E11)", async () => {
    const { run, sva, scheduler, fault, report, answers } = await bound();
    await run(async () => {
      report(fault(0, RW, { last: false }), fault(0, 0n, { perm: 0 }), fault(0, 0n, { perm: PRIV }));
      await scheduler.idle();
      expect(answers()).toEqual([]);
      expect(sva.inUse().partials).toBe(1);
    });
  });

  it.each([
    { bugs: [], pages: ["0x20000 1"], parked: 0 },
    { bugs: ["S-14"], pages: ["0x10000 1", "0x20000 1"], parked: 1 },
  ])("discards open groups after an overflow: with $bugs, the next group has $pages (E12) (S-14)", async (row) => {
    const { run, sva, scheduler, dev, process, fault, report } = await bound(row.bugs);
    await run(async () => {
      report(fault(1, RW, { last: false }));
      sva.discardPartial([dev]);
      expect(sva.inUse().partials).toBe(row.parked);
      report(fault(1, RO));
      await scheduler.idle();
      expect(process.faults).toEqual(row.pages);
    });
  });

  it("answers FAILURE without memory for the group, and forgets its parked requests (E13) (S-15)", async () => {
    const { run, sva, scheduler, kernel, process, fault, report, answers } = await bound();
    await run(async () => {
      report(fault(1, RW, { last: false }));
      kernel.allocationFails = (what) => what === "iopf_group";
      report(fault(1, RO));
      await scheduler.idle();
      expect(answers()).toEqual(["1 failure"]);
      expect(process.faults).toEqual([]);
      expect(sva.inUse().partials).toBe(0);
    });
  });

  it("never answers without memory for the group, with the seed's code, and the device hangs (S-15)", async () => {
    const { run, sva, scheduler, kernel, fault, report, answers } = await bound(["S-15"]);
    await run(async () => {
      report(fault(1, RW, { last: false }));
      kernel.allocationFails = (what) => what === "iopf_group";
      report(fault(1, RO));
      await scheduler.idle();
      expect(answers()).toEqual([]);
      expect(sva.inUse().partials).toBe(1);
    });
  });

  it("forgets a request that it has no memory to park; its group still gets its answer (E13)", async () => {
    const { run, sva, scheduler, kernel, process, fault, report, answers } = await bound();
    await run(async () => {
      kernel.allocationFails = (what) => what === "iopf_fault";
      report(fault(1, RW, { last: false }));
      expect(sva.inUse().partials).toBe(0);
      report(fault(1, RO));
      await scheduler.idle();
      expect(process.faults).toEqual(["0x20000 1"]);
      expect(answers()).toEqual(["1 success"]);
    });
  });

  it("bounds what one device can have outstanding: 4096 parked requests, 65536 groups, as a stall tag has 16 bits (E13) (E17)", {
    timeout: 60_000,
  }, async () => {
    const { run, sva, scheduler, fault, report, answers } = await bound();
    await run(async () => {
      for (let i = 0; i < 5000; i++) report(fault(511, RW, { last: false }));
      expect(sva.inUse().partials).toBe(4096);
      for (let i = 0; i < 0x1_0000 + 88; i++) report(fault(512 + (i % 1000), RW));
      await scheduler.idle();
      expect(answers()).toHaveLength(0x1_0000 + 88);
      expect(answers().filter((answer) => answer.endsWith("failure"))).toHaveLength(88);
    });
  });

  it("refuses faults of a device that nobody handles faults for, so that the driver answers them (E14)", async () => {
    const { run, sva, device, fault } = await bound();
    await run(async () => {
      const dev = await device("0000:07:00.0");
      expect(() => sva.report(dev, fault(1, RW))).toThrow("EINVAL");
    });
  });

  it("finds no half-gone device: a fault that is reported during removal is refused or answered (E15) (L-6)", async () => {
    const { run, sva, scheduler, ops, dev, process, fault, answers } = await bound();
    await run(async () => {
      process.faultDelay = 300;
      ops.delays.svaDeviceShutdown = 1000;
      let refused = 0;
      let taken = 0;
      const hammer = async () => {
        for (let i = 0; i < 2000; i++) {
          try {
            sva.report(dev, fault(i, RW));
            taken++;
          } catch {
            refused++;
          }
          await scheduler.sleep(10);
        }
      };
      scheduler.spawn("event thread", hammer);
      await scheduler.sleep(100);
      await sva.iommuSvaDeviceShutdown(dev);
      await scheduler.sleep(10_000);
      expect(refused).toBeGreaterThan(0);
      expect(taken).toBeGreaterThan(0);
      expect(answers()).toHaveLength(taken);
      expect(new Set(answers().map((answer) => answer.split(" ")[0])).size).toBe(taken);
    });
  });

  it("answers what is pending INVALID when the device goes, and nothing after that (E16) (I-2)", async () => {
    const { run, sva, scheduler, ops, dev, fault, report, answers } = await bound();
    await run(async () => {
      // Comes while page requests are being stopped: the drains are over, and no worker has begun with it.
      const shutdown = ops.svaDeviceShutdown.bind(ops);
      ops.svaDeviceShutdown = async (...args) => {
        report(fault(1, RW, { last: false }), fault(2, RW), fault(3, RW));
        await shutdown(...args);
      };
      await sva.iommuSvaDeviceShutdown(dev);
      expect(answers().filter((answer) => answer.endsWith("invalid"))).toEqual(["2 invalid", "3 invalid"]);
      await scheduler.sleep(50_000);
      expect(answers()).toHaveLength(2);
      expect(sva.inUse().partials).toBe(0);
    });
  });

  it("takes stalled transactions as groups of one, by their tag (E17)", async () => {
    const { run, scheduler, fault, report, answers } = await bound();
    await run(async () => {
      report(fault(0xfffe, RW), fault(0xffff, RW));
      await scheduler.idle();
      expect(answers().toSorted()).toEqual(["65534 success", "65535 success"]);
    });
  });

  it("logs a response that the driver could not send, and goes on (E16)", async () => {
    const { run, ops, scheduler, kernel, fault, report, answers } = await bound();
    await run(async () => {
      ops.fail("pageResponse", "ETIMEDOUT");
      report(fault(1, RW));
      await scheduler.idle();
      report(fault(2, RW));
      await scheduler.idle();
      expect(kernel.log).toEqual([
        "0000:01:00.0: page response for group 1 failed: ETIMEDOUT: pageResponse was told to fail",
      ]);
      expect(answers()).toEqual(["2 success"]);
    });
  });

  it("has one work queue per IOMMU, whatever the number of devices (E1)", async () => {
    const { run, sva, scheduler, svaDevice, dev, process, fault } = await bound();
    await run(async () => {
      const other = await svaDevice("0000:02:00.0");
      await sva.bindDeviceLocked(other, process, IOPF);
      process.faultDelay = 400;
      sva.report(other, fault(1, RW));
      await sva.flushDevice(dev, 1);
      expect(scheduler.now).toBe(400);
    });
  });
});

describe("I/O page fault of a process", () => {
  interface Row {
    readonly what: string;
    readonly code: string;
    readonly fault?: Partial<IopfFault>;
    readonly prepare?: (m: Machine & { readonly process: FakeMm; readonly dev: Device }) => Promise<void> | void;
  }
  const result = (answer: FaultResult) => (m: { readonly process: FakeMm }) => void m.process.results.push(answer);
  const rows: readonly Row[] = [
    { what: "a read of a readable page", code: "success", fault: { address: RO, perm: READ } },
    { what: "a write to a writable page", code: "success", fault: { address: RW, perm: READ | WRITE } },
    { what: "a fetch from an executable page", code: "success", fault: { address: RX, perm: READ | EXEC } },
    { what: "a privileged read", code: "success", fault: { address: RO, perm: READ | PRIV } },
    { what: "a write to a read-only page", code: "invalid", fault: { address: RO, perm: WRITE } },
    { what: "a fetch from a page without execute permission", code: "invalid", fault: { address: RW, perm: EXEC } },
    { what: "a request without a PASID", code: "invalid", fault: { pasid: NO_PASID } },
    { what: "a PASID that nobody has", code: "invalid", fault: { pasid: 77 } },
    { what: "an address outside of every mapping", code: "invalid", fault: { address: 0x5_0000n } },
    { what: "the first address after a mapping", code: "invalid", fault: { address: 0x4_0000n } },
    { what: "the last byte of a mapping", code: "success", fault: { address: 0x3_ffffn } },
    { what: "handle_mm_fault answers SIGBUS", code: "invalid", prepare: result("bus") },
    { what: "handle_mm_fault answers SIGSEGV", code: "invalid", prepare: result("segv") },
    { what: "handle_mm_fault has no memory", code: "invalid", prepare: result("oom") },
    { what: "the process has exited", code: "invalid", prepare: ({ process }) => process.mmput() },
    {
      what: "a page below the stack, which devices do not grow",
      code: "invalid",
      fault: { address: 0x6_f000n, perm: WRITE },
      prepare: ({ process }) => void process.mappings.push(vma(0x7_0000n, 0x8_0000n, "rw-", "[stack]")),
    },
  ];

  it.each(rows)("is answered $code: $what (E7) (E8) (S-17)", async ({ code, fault: more, prepare }) => {
    const m = await bound();
    await m.run(async () => {
      await prepare?.(m);
      m.report(m.fault(1, RW, more));
      await m.scheduler.idle();
      expect(m.answers()).toEqual([`1 ${code}`]);
    });
  });

  it("is answered INVALID with a PASID that another device is bound to, whose process does not notice (E14)", async () => {
    const { run, sva, scheduler, svaDevice, mm, fault, report, answers } = await bound();
    await run(async () => {
      const other = mm();
      const pasid = await sva.bindDeviceLocked(await svaDevice("0000:02:00.0"), other, IOPF);
      report(fault(1, RW, { pasid }));
      await scheduler.idle();
      expect(answers()).toEqual(["1 invalid"]);
      expect(other.faults).toEqual([]);
    });
  });

  it("passes the access to handle_mm_fault, privilege included (E7) (E8)", async () => {
    expect(FaultPerm).toEqual({ READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 });
    const { run, scheduler, process, fault, report } = await bound();
    await run(async () => {
      report(fault(1, RW, { perm: READ | WRITE | PRIV }));
      await scheduler.idle();
      expect(process.faults).toEqual(["0x10000 11"]);
    });
  });

  it("grows the stack as a CPU's fault would, with the seed's find_extend_vma (S-17)", async () => {
    const { run, scheduler, process, fault, report, answers } = await bound(["S-17"]);
    await run(async () => {
      process.mappings.push(vma(0x7_0000n, 0x8_0000n, "rw-", "[stack]"));
      report(fault(1, 0x6_f000n, { perm: WRITE }));
      await scheduler.idle();
      expect(answers()).toEqual(["1 success"]);
    });
  });

  it("finds the process with a reference, and gives it back where the teardown cannot wait for itself (B8) (B9)", async () => {
    const { run, sva, scheduler, process, pasid, fault, report, answers } = await bound();
    await run(async () => {
      expect(sva.iommuSvaFind(pasid)).toBe(process);
      expect(process.mmUsers).toBe(2);
      process.mmputAsync();
      process.faultDelay = 100;
      report(fault(1, RW));
      await scheduler.sleep(10);
      // The process exits while the worker has the last reference: the release flushes the worker's own queue.
      await process.mmput();
      await scheduler.sleep(1000);
      expect(answers()).toEqual(["1 success"]);
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
      expect(process.mmCount).toBe(0);
      expect(sva.iommuSvaFind(pasid)).toBeUndefined();
    });
  });

  it("of a device that never stops asking does not keep an exit from ending (C5) (S-10)", async () => {
    const { run, sva, scheduler, dev, process, ops, fault } = await bound();
    await run(async () => {
      let asked = 0;
      let stop = false;
      scheduler.spawn("device", async () => {
        while (!stop) {
          sva.report(dev, fault(asked++ & 511, RW));
          await scheduler.sleep(10);
        }
      });
      await scheduler.sleep(1000);
      ops.delays.pageResponse = 5;
      await process.mmput();
      expect(sva.inUse().bonds).toBe(0);
      stop = true;
      await scheduler.sleep(10_000);
      expect(ops.responses).toHaveLength(asked);
    });
  });
});
