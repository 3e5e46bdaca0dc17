import {
  Access,
  type PageRequest,
  PRI_CAPABILITY,
  pciDisablePri,
  pciEnablePri,
  pciPriStopped,
  pciResetPri,
  readField,
} from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { DmaStatus } from "../src/dma-status.js";
import type { FunctionOptions } from "../src/function-options.js";
import { Bench, RAM } from "./support/bench.js";
import { type Probe, probe } from "./support/probe.js";

const RW = Access.READ | Access.WRITE;
const PASID = 5;

function setUp(credits = 32, options: Partial<FunctionOptions> = {}, pagesPerRequest = 1) {
  const bench = new Bench();
  const device = probe(bench, options, { dma: { pagesPerRequest } });
  bench.enable(device, credits);
  const respond = (request: PageRequest, code = 0, pasid = PASID) =>
    device.pageResponse({ rid: request.rid, pasid, prgi: request.prgi, code });
  const status = () => device.readConfig(device.capabilities.pri + 6, 2);
  /** Starts a read of `count` pages in a thread; the result is there when it has ended. */
  const read = (page: number, count = 1) => {
    const result: { status: number | undefined } = { status: undefined };
    bench.scheduler.spawn("dma", async () => {
      result.status = (await device.dma.read(PASID, BigInt(page), new Uint8Array(4096 * count))).status;
    });
    return result;
  };
  const map = (page: number) => bench.iommu.map(PASID, BigInt(page), { pa: RAM + page, perms: RW });
  return { bench, device, respond, status, read, map };
}

function field(device: Probe, name: keyof typeof PRI_CAPABILITY & ("Stopped" | "ResponseFailure" | "Enable")): number {
  return readField(device, device.capabilities.pri, PRI_CAPABILITY[name]);
}

describe("Page Request Interface", () => {
  it("asks for a missing page and goes on when the answer is Success (I8)", async () => {
    const { bench, respond, read, map } = setUp();
    await bench.run(async () => {
      const result = read(0x3000);
      await bench.scheduler.yield();
      expect(bench.iommu.pageRequests).toEqual([
        {
          rid: 0x100,
          pasid: PASID,
          hi: 0,
          lo: 0x3000,
          read: true,
          write: false,
          execute: false,
          privileged: false,
          last: true,
          prgi: 0,
        },
      ]);
      map(0x3000);
      respond(bench.iommu.pageRequests[0]);
      await bench.scheduler.idle();
      expect(result.status).toBe(DmaStatus.OK);
    });
  });

  it("asks for several pages as one group with one index, LAST on the last", async () => {
    const { bench, respond, read, map } = setUp(32, {}, 4);
    await bench.run(async () => {
      map(0x6000);
      const result = read(0x3000, 5);
      await bench.scheduler.yield();
      expect(bench.iommu.pageRequests.map(({ lo, last, prgi }) => [lo, last, prgi])).toEqual([
        [0x3000, false, 0],
        [0x4000, false, 0],
        [0x5000, true, 0],
      ]);
      for (const page of [0x3000, 0x4000, 0x5000, 0x7000]) map(page);
      respond(bench.iommu.pageRequests[0]);
      await bench.scheduler.idle();
      expect(result.status).toBe(DmaStatus.OK);
    });
  });

  it("asks for less at a time when software has given it less while it waited for credits", async () => {
    const { bench, device, respond, read, map } = setUp(4, {}, 4);
    await bench.run(async () => {
      read(0x10000, 4);
      const waiting = read(0x20000, 4);
      await bench.scheduler.idle();
      pciDisablePri(device);
      respond(bench.iommu.pageRequests[0], 1);
      pciEnablePri(device, 1);
      bench.iommu.pageRequests.length = 0;
      bench.iommu.onPageRequest = (request) => {
        map(request.lo);
        bench.scheduler.timer(1, () => respond(request));
      };
      await bench.scheduler.sleep(100);
      expect(waiting.status).toBe(DmaStatus.OK);
      expect(bench.iommu.pageRequests.map(({ lo, last }) => [lo, last])).toEqual([
        [0x20000, true],
        [0x21000, true],
        [0x22000, true],
        [0x23000, true],
      ]);
    });
  });

  it("has no more groups open than there are indexes, whatever its credits", async () => {
    const { bench, respond, read, map } = setUp(600, { pri: { capacity: 600 } });
    await bench.run(async () => {
      for (let i = 0; i < 513; i++) read(0x1000 * (i + 1));
      await bench.scheduler.idle();
      expect(new Set(bench.iommu.pageRequests.map(({ prgi }) => prgi)).size).toBe(512);
      expect(bench.iommu.pageRequests).toHaveLength(512);
      map(0x1000 * 8);
      respond(bench.iommu.pageRequests[7]);
      await bench.scheduler.idle();
      expect(bench.iommu.pageRequests[512].prgi).toBe(7);
    });
  });

  it("gives a page up that never comes, though each answer says so", async () => {
    const { bench, respond, read } = setUp();
    await bench.run(async () => {
      bench.iommu.onPageRequest = (request) => void bench.scheduler.timer(1, () => respond(request));
      const result = read(0x1000);
      await bench.scheduler.sleep(1000);
      expect([result.status, bench.iommu.pageRequests.length]).toEqual([DmaStatus.NOT_PRESENT, 16]);
    });
  });

  it("never has more requests outstanding than its allocation (I11)", async () => {
    const { bench, respond, read, map } = setUp(2);
    await bench.run(async () => {
      const results = [0x1000, 0x2000, 0x3000].map((page) => read(page));
      await bench.scheduler.idle();
      expect(bench.iommu.pageRequests).toHaveLength(2);
      for (const page of [0x1000, 0x2000, 0x3000]) map(page);
      respond(bench.iommu.pageRequests[1]);
      await bench.scheduler.idle();
      expect(bench.iommu.pageRequests).toHaveLength(3);
      expect(bench.iommu.pageRequests.map(({ prgi }) => prgi)).toEqual([0, 1, 2]);
      respond(bench.iommu.pageRequests[0]);
      respond(bench.iommu.pageRequests[2]);
      await bench.scheduler.idle();
      expect(results.map(({ status }) => status)).toEqual([0, 0, 0]);
    });
  });

  it("gives the transfer up at Invalid Request, and goes on with others", async () => {
    const { bench, device, respond, read, map } = setUp();
    await bench.run(async () => {
      const [first, second] = [read(0x1000), read(0x2000)];
      await bench.scheduler.idle();
      map(0x2000);
      respond(bench.iommu.pageRequests[0], 1);
      respond(bench.iommu.pageRequests[1], 0);
      await bench.scheduler.idle();
      expect([first.status, second.status]).toEqual([DmaStatus.INVALID_PAGE, DmaStatus.OK]);
      expect(device.pri?.usable).toBe(true);
    });
  });

  it.each([15, 7])(
    "stops at Response Failure and at codes that mean nothing (%i) until it is enabled anew (I7)",
    async (code) => {
      const { bench, device, respond, status, read, map } = setUp();
      await bench.run(async () => {
        const [first, second] = [read(0x1000), read(0x2000)];
        await bench.scheduler.idle();
        respond(bench.iommu.pageRequests[0], code);
        await bench.scheduler.idle();
        expect([first.status, second.status]).toEqual([DmaStatus.RESPONSE_FAILURE, DmaStatus.RESPONSE_FAILURE]);
        expect(status() & 1).toBe(1);
        // Responses are ignored now, new requests are not made.
        respond(bench.iommu.pageRequests[1]);
        expect(status() & 2).toBe(0);
        const third = read(0x3000);
        await bench.scheduler.idle();
        expect(third.status).toBe(DmaStatus.NOT_PRESENT);
        expect(bench.iommu.pageRequests).toHaveLength(2);
        pciDisablePri(device);
        pciEnablePri(device, 8);
        expect(status() & 3).toBe(0);
        const fourth = read(0x3000);
        await bench.scheduler.idle();
        map(0x3000);
        respond(bench.iommu.pageRequests[2]);
        await bench.scheduler.idle();
        expect(fourth.status).toBe(DmaStatus.OK);
      });
    },
  );

  it("flags a response to a group that is not outstanding (UPRGI), write one to clear", () => {
    const { device, status } = setUp();
    device.pageResponse({ rid: device.rid, pasid: PASID, prgi: 77, code: 0 });
    expect(status() & 2).toBe(2);
    device.writeConfig(device.capabilities.pri + 6, 2, 2);
    expect(status() & 2).toBe(0);
  });

  it("does not take a response without the PASID that it requires (S-12)", async () => {
    const { bench, respond, status, read } = setUp();
    await bench.run(async () => {
      const result = read(0x1000);
      await bench.scheduler.idle();
      respond(bench.iommu.pageRequests[0], 0, -1);
      await bench.scheduler.idle();
      expect(result.status).toBeUndefined();
      expect(status() & 2).toBe(2);
    });
  });

  it("takes a response without PASID where it does not require one", async () => {
    const { bench, respond, read, map } = setUp(32, { pri: { pasidRequired: false } });
    await bench.run(async () => {
      const result = read(0x1000);
      await bench.scheduler.idle();
      map(0x1000);
      respond(bench.iommu.pageRequests[0], 0, -1);
      await bench.scheduler.idle();
      expect(result.status).toBe(DmaStatus.OK);
    });
  });

  it("is Stopped only when it is disabled and everything is answered; enabling before that is refused with EBUSY (I3)", async () => {
    const { bench, device, respond, read } = setUp();
    await bench.run(async () => {
      read(0x1000);
      await bench.scheduler.idle();
      pciDisablePri(device);
      expect([field(device, "Stopped"), pciPriStopped(device)]).toEqual([0, false]);
      expect(() => pciEnablePri(device, 8)).toThrow("EBUSY");
      respond(bench.iommu.pageRequests[0], 1);
      await bench.scheduler.idle();
      expect([field(device, "Stopped"), pciPriStopped(device)]).toEqual([1, true]);
      pciEnablePri(device, 8);
      expect(field(device, "Stopped")).toBe(0);
    });
  });

  it("forgets outstanding requests at a reset, which works only while it is disabled", async () => {
    const { bench, device, status, read } = setUp();
    await bench.run(async () => {
      const result = read(0x1000);
      await bench.scheduler.idle();
      expect(() => pciResetPri(device)).toThrow("EBUSY");
      device.writeConfig(device.capabilities.pri + 4, 2, 3);
      expect(device.pri?.outstanding).toBe(1);
      pciDisablePri(device);
      pciResetPri(device);
      await bench.scheduler.idle();
      expect(result.status).toBe(DmaStatus.CANCELLED);
      expect([device.pri?.outstanding, field(device, "Stopped"), status() & 3]).toEqual([0, 1, 0]);
    });
  });

  it("gives a group up when nobody answers in time (E18)", async () => {
    const { bench, device, respond, status, read } = setUp(32, { pri: { timeout: 1_000_000 } });
    await bench.run(async () => {
      const result = read(0x1000);
      await bench.scheduler.sleep(2_000_000);
      expect(result.status).toBe(DmaStatus.TIMEOUT);
      respond(bench.iommu.pageRequests[0]);
      expect(status() & 2).toBe(2);
      expect(device.pri?.outstanding).toBe(0);
    });
  });

  it("keeps the allocation while it is enabled, and no more than software wrote", () => {
    const { device } = setUp(8);
    device.writeConfig(device.capabilities.pri + 12, 4, 50);
    expect(device.readConfig(device.capabilities.pri + 12, 4)).toBe(8);
    pciDisablePri(device);
    expect(pciEnablePri(device, 1000)).toBe(64);
  });

  it("uses all 512 indices before one comes again", async () => {
    const { bench, device, respond, read } = setUp();
    await bench.run(async () => {
      for (let n = 0; n < 514; n++) {
        read(0x1000);
        await bench.scheduler.idle();
        expect(bench.iommu.pageRequests[n].prgi).toBe(n % 512);
        respond(bench.iommu.pageRequests[n], 1);
        await bench.scheduler.idle();
      }
    });
    expect(device.pri?.outstanding).toBe(0);
  });
});
