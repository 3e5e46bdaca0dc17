/**
 * Threads that bind, unbind, exit, fault, invalidate, shut devices down and initialise them again, at random times, over
 * hardware that takes random times. Whatever the interleaving: no PASID table entry is ever two processes', no callback
 * sees a freed context, every accepted last request has one answer, and nothing is left in the end.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Device, type IommuDomain, isErrno, MainlineSva, type Mm, SvaCore } from "../../src/index.js";
import { FakeDomain, FakeIommu, type FakeIommuOps } from "../../src/testing/index.js";
import type { FakeMm } from "./fake-mm.js";
import { IOPF, machine } from "./machine.js";

const PROCESSES = 3;
const DEVICES = 4;

const action = fc.record({
  what: fc.constantFrom("bind", "bind", "bind", "unbind", "unbind", "exit", "fault", "fault", "invalidate", "reset"),
  process: fc.nat(PROCESSES - 1),
  device: fc.nat(DEVICES - 1),
  /** Nanoseconds before it. */
  pause: fc.nat(120),
  last: fc.boolean(),
  mmExitTime: fc.nat(150),
});
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

const program = fc.record({
  threads: fc.array(fc.array(action, { minLength: 1, maxLength: 25 }), { minLength: 2, maxLength: 4 }),
  times: fc.array(fc.nat(90), { minLength: 8, maxLength: 8 }),
  stubborn: fc.boolean(),
});

type Program = typeof program extends fc.Arbitrary<infer T> ? T : never;

/** Watches one IOMMU's operations for what must never be asked of it. */
function watch(ops: FakeIommuOps, wrongs: string[]): void {
  const attach = ops.mmAttach.bind(ops);
  const detach = ops.mmDetach.bind(ops);
  const invalidate = ops.mmInvalidate.bind(ops);
  const attached = new Map<IommuDomain, Map<number, Set<Device>>>();
  const on = (domain: IommuDomain, pasid: number) => {
    const pasids = attached.get(domain) ?? new Map<number, Set<Device>>();
    attached.set(domain, pasids);
    const devices = pasids.get(pasid) ?? new Set();
    pasids.set(pasid, devices);
    return devices;
  };
  const hasContext = (mm: Mm, context: object | undefined, where: string) => {
    if (!context || !ops.contexts.has(context)) wrongs.push(`${where} of ${mm.owner} without a context`);
  };
  ops.mmAttach = async (domain, dev, ioMm, first) => {
    const entry = domain instanceof FakeDomain ? domain.pasids.get(ioMm.pasid) : undefined;
    const others = on(domain, ioMm.pasid);
    if (first !== (others.size === 0)) wrongs.push(`attach of ${dev.name} first=${first} with ${others.size} others`);
    if (entry && entry !== ioMm.mm)
      wrongs.push(`PASID ${ioMm.pasid} is ${entry.owner}'s, and shall be ${ioMm.mm.owner}'s`);
    hasContext(ioMm.mm, ioMm.contexts.get(ops), "attach");
    await attach(domain as FakeDomain, dev, ioMm, first);
    others.add(dev);
  };
  ops.mmDetach = async (domain, dev, ioMm, last) => {
    const others = on(domain, ioMm.pasid);
    if (!others.has(dev)) wrongs.push(`detach of ${dev.name}, which is not attached`);
    if (last !== (others.size === 1)) wrongs.push(`detach of ${dev.name} last=${last} with ${others.size}`);
    hasContext(ioMm.mm, ioMm.contexts.get(ops), "detach");
    await detach(domain as FakeDomain, dev, ioMm, last);
    others.delete(dev);
  };
  ops.mmInvalidate = async (domain, dev, ioMm, start, size) => {
    const context = ioMm.contexts.get(ops);
    hasContext(ioMm.mm, context, "invalidation");
    await invalidate(domain, dev, ioMm, start, size);
    if (context && !ops.contexts.has(context)) wrongs.push(`context of ${ioMm.mm.owner} freed under an invalidation`);
  };
}

async function execute({ threads, times, stubborn }: Program, core: typeof SvaCore, bugs: readonly string[] = []) {
  const m = machine(bugs, core);
  m.kernel.allocationFails = (what) => what === "iopf_group" && m.scheduler.now % 7 === 0;
  const { sva, scheduler, groups } = m;
  const wrongs: string[] = [];
  const other = new FakeIommu(scheduler, "other");
  for (const { ops } of [m.iommu, other]) {
    const slow = [
      "mmAlloc",
      "mmAttach",
      "mmDetach",
      "mmExit",
      "mmInvalidate",
      "pageResponse",
      "svaDeviceInit",
      "svaDeviceShutdown",
    ] as const;
    for (const [i, op] of slow.entries()) ops.delays[op] = times[i];
    watch(ops, wrongs);
  }
  let accepted = 0;
  await m.run(async () => {
    const exits = { time: 0, count: 0 };
    const mmExit = async () => {
      await scheduler.sleep(exits.time);
      return stubborn && exits.count++ % 3 === 0 ? 1 : 0;
    };
    const devices: Device[] = [];
    for (let i = 0; i < DEVICES; i++) {
      devices.push(await m.svaDevice(`0000:0${i + 1}:00.0`, { mmExit, behind: i === 3 ? other : m.iommu }));
    }
    const shared = m.ops.domainAlloc("unmanaged", devices[0]);
    for (const { group } of devices.slice(0, 2)) if (group) await groups.attachGroup(shared, group);

    const processes = Array.from({ length: PROCESSES }, () => m.mm());
    const errno = async (body: () => Promise<unknown>) => {
      await body().catch((error: unknown) => {
        if (!isErrno(error)) throw error;
      });
    };
    /** As VFIO: the device stays in its domain meanwhile. Init and shutdown know of no such lock. */
    const inGroup = (dev: Device, body: () => Promise<unknown>) => dev.group?.mutex.with(() => errno(body));
    const perform = async ({ what, process: p, device: d, pause, last, mmExitTime }: Action) => {
      await scheduler.sleep(pause);
      const dev = devices[d];
      const process = processes[p];
      switch (what) {
        case "bind":
          return inGroup(dev, () => sva.bindDeviceLocked(dev, process, IOPF));
        case "unbind":
          return inGroup(dev, async () => sva.unbindDeviceLocked(dev, sva.ioMmOf(process)?.pasid ?? -1));
        case "reset":
          await errno(() => sva.iommuSvaDeviceShutdown(dev));
          return errno(() => sva.iommuSvaDeviceInit(dev, IOPF, 0, mmExit));
        case "invalidate":
          return process.mmUsers > 0 ? process.invalidate(0x1000n, 0x2000n) : undefined;
        case "exit":
          return exit(process, mmExitTime);
        case "fault":
          try {
            const pasid = sva.ioMmOf(process)?.pasid ?? 9;
            sva.report(dev, { pasid, grpid: pause & 3, address: 0x10000n, perm: 1, last, responseNeedsPasid: true });
            if (last) accepted++;
          } catch (error) {
            if (!isErrno(error, "EINVAL")) throw error;
          }
      }
    };
    const exit = async (process: FakeMm, time: number) => {
      if (process.mmUsers === 0) return;
      const at = processes.indexOf(process);
      if (at < 0) return;
      processes[at] = m.mm();
      exits.time = time;
      process.faultDelay = 30;
      await process.mmput();
    };

    let running = threads.length;
    for (const [i, actions] of threads.entries()) {
      scheduler.spawn(`thread ${i}`, async () => {
        for (const one of actions) await perform(one);
        running--;
      });
    }
    await scheduler.sleep(1_000_000);
    if (running > 0) wrongs.push(`${running} threads never ended`);
    for (const process of processes) await exit(process, 0);
    await scheduler.sleep(1_000_000);
    for (const dev of devices) await errno(() => sva.iommuSvaDeviceShutdown(dev));
    await scheduler.sleep(1_000_000);
    const responses = m.ops.responses.length + other.ops.responses.length;
    if (responses !== accepted) wrongs.push(`${accepted} groups, ${responses} answers`);
    const { bonds, pasids, partials } = sva.inUse();
    if (bonds + pasids + partials > 0) wrongs.push(`left: ${bonds} bonds, ${pasids} PASIDs, ${partials} requests`);
    if (m.ops.contexts.size + other.ops.contexts.size > 0) wrongs.push("contexts left");
  });
  const expected = /possible leak|before SVA is initialised/;
  wrongs.push(...m.kernel.log.filter((line) => !expected.test(line)));
  return wrongs;
}

/** @returns what went wrong in the simplest program found, or nothing */
async function search(core: typeof SvaCore, bugs: readonly string[] = []): Promise<string> {
  const property = fc.asyncProperty(program, async (one) => {
    const wrongs = await execute(one, core, bugs);
    if (wrongs.length > 0) throw new Error(wrongs.join("; "));
  });
  const result = await fc.check(property, { numRuns: 300, seed: 20180511, endOnFailure: bugs.length > 0 });
  return result.failed ? `${String(result.errorInstance)}\n${fc.defaultReportMessage(result)}` : "";
}

describe("the SVA core under any interleaving", () => {
  it.each([
    ["seed", SvaCore],
    ["mainline", MainlineSva as unknown as typeof SvaCore],
  ])("keeps its promises; %s (I-2) (I-3) (I-5) (L-21)", { timeout: 60_000 }, async (_name, core) => {
    expect(await search(core)).toBe("");
  });

  it.each([
    ["S-8", "use-after-free"],
    ["S-15", "answers"],
    ["S-18", "is pid"],
    ["L-3", "is pid"],
    ["L-5", "DeadlockError"],
  ])("does not when %s is switched on: %s", { timeout: 60_000 }, async (bug, symptom) => {
    expect(await search(SvaCore, [bug])).toContain(symptom);
  });
});
