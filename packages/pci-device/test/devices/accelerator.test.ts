import { Access, NO_PASID, type PageRequest, PrgResponseCode } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { Accelerator, type AcceleratorOptions, accelerator } from "../../src/devices/accelerator/accelerator.js";
import { AcceleratorClient, decodeCompletion, encodeDescriptor } from "../../src/devices/accelerator/client.js";
import { crc32, crc32c } from "../../src/devices/accelerator/crc.js";
import { Bench, RAM } from "../support/bench.js";

const PASID = 5;
const RW = Access.READ | Access.WRITE;

function setUp(options: Partial<AcceleratorOptions> = {}) {
  const bench = new Bench();
  const device = new Accelerator({ bdf: "0000:01:00.0", ...options }, bench.ports());
  bench.enable(device);
  const client = new AcceleratorClient(device);
  /** Pages of the address space, identity plus RAM. */
  const map = (address: number, perms = RW) => bench.iommu.map(PASID, BigInt(address), { pa: RAM + address, perms });
  /** Software that makes the page present and answers. */
  const servePageFaults = (code: number = PrgResponseCode.SUCCESS) => {
    const group: PageRequest[] = [];
    bench.iommu.onPageRequest = (request) => {
      group.push(request);
      if (!request.last) return;
      const { rid, pasid, prgi } = request;
      bench.scheduler.timer(1000, () => {
        for (const { lo } of group.splice(0)) if (code === PrgResponseCode.SUCCESS) map(lo);
        device.pageResponse({ rid, pasid, prgi, code });
      });
    };
  };
  const completion = (pa: number) => decodeCompletion(bench.bytes(pa, 32));
  const waitFor = async (pa: number) => {
    while (bench.bytes(pa, 1)[0] === 0) await bench.scheduler.sleep(100);
    return completion(pa);
  };
  return { bench, device, client, map, servePageFaults, completion, waitFor };
}

const RECORD = 0x8000;
const withRecord = {
  CompletionRecordAddressValid: true,
  RequestCompletionRecord: true,
  CompletionRecordAddress: RECORD,
};

describe("accelerator", () => {
  it("copies between pages of a process that it has never touched, by page requests", async () => {
    const { bench, client, map, servePageFaults, waitFor } = setUp();
    servePageFaults();
    bench.memory.writeBytes(
      RAM + 0x1f00,
      Uint8Array.from({ length: 512 }, (_, i) => i),
    );
    map(RECORD);
    const record = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "MEMMOVE",
          BlockOnFault: true,
          Source: 0x1f00,
          Destination: 0x4f80,
          TransferSize: 512,
          ...withRecord,
        }),
      );
      return waitFor(RAM + RECORD);
    });
    expect(record).toMatchObject({ Status: "SUCCESS", BytesCompleted: 512 });
    expect(bench.bytes(RAM + 0x4f80, 512)).toEqual(bench.bytes(RAM + 0x1f00, 512));
    // Two pages read, two pages written; the record's page was there.
    expect(bench.iommu.pageRequests.map(({ lo, read, write }) => [lo, read, write])).toEqual([
      [0x1000, true, false],
      [0x2000, true, false],
      [0x4000, false, true],
      [0x5000, false, true],
    ]);
  });

  it("reports a missing page when the descriptor does not ask to wait", async () => {
    const { bench, client, map, waitFor } = setUp();
    map(0x1000);
    map(0x4000);
    map(RECORD);
    const record = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "MEMMOVE",
          Source: 0x1f00,
          Destination: 0x4000,
          TransferSize: 512,
          ...withRecord,
        }),
      );
      return waitFor(RAM + RECORD);
    });
    expect(record).toMatchObject({
      Status: "PAGE_FAULT_NO_BLOCK",
      FaultOnWrite: false,
      BytesCompleted: 256,
      FaultAddress: 0x2000n,
    });
    expect(bench.iommu.pageRequests).toEqual([]);
  });

  it("says so when software refuses the page", async () => {
    const { bench, client, map, servePageFaults, waitFor } = setUp();
    servePageFaults(PrgResponseCode.INVALID_REQUEST);
    map(RECORD);
    const record = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "MEMFILL",
          BlockOnFault: true,
          Source: 0x55,
          Destination: 0x9000,
          TransferSize: 64,
          ...withRecord,
        }),
      );
      return waitFor(RAM + RECORD);
    });
    expect(record).toMatchObject({
      Status: "PAGE_FAULT_INVALID_RESPONSE",
      FaultOnWrite: true,
      BytesCompleted: 0,
      FaultAddress: 0x9000n,
    });
  });

  it("fetches a descriptor that a process wrote into its own memory and rang for", async () => {
    const { bench, client, map, waitFor } = setUp();
    map(0x1000);
    map(RECORD);
    bench.memory.writeBytes(
      RAM + 0x1040,
      encodeDescriptor({
        Opcode: "MEMFILL",
        Source: 0x1122334455667788n,
        Destination: 0x1200,
        TransferSize: 16,
        ...withRecord,
      }),
    );
    await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.ring(0, PASID, 0x1040n);
      await waitFor(RAM + RECORD);
    });
    expect([...bench.bytes(RAM + 0x1200, 16)]).toEqual([
      0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    ]);
    expect(bench.iommu.atsRequests.every(({ pasid }) => pasid === PASID)).toBe(true);
  });

  it("takes the PASID of a dedicated queue from the queue, whatever the descriptor says", async () => {
    const { bench, client, map, waitFor } = setUp();
    map(RECORD);
    await bench.run(async () => {
      await client.enable();
      await client.enableQueue(3, { pasid: PASID });
      await client.submit(3, encodeDescriptor({ PASID: 77, Opcode: "NOOP", ...withRecord }));
      await waitFor(RAM + RECORD);
    });
    expect(bench.iommu.atsRequests.map(({ pasid }) => pasid)).toEqual([PASID]);
  });

  it("works without a PASID and without ATS, as under VFIO with mapped memory", async () => {
    const { bench, client, waitFor } = setUp({ ats: null, pri: null, pasid: null });
    bench.iommu.map(NO_PASID, 0x10_0000n, { pa: RAM, perms: RW });
    bench.memory.writeBytes(RAM, Uint8Array.of(1, 2, 3, 4));
    await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, {});
      await client.submit(
        0,
        encodeDescriptor({
          Opcode: "MEMMOVE",
          Source: 0x10_0000,
          Destination: 0x10_0100,
          TransferSize: 4,
          ...withRecord,
          CompletionRecordAddress: 0x10_0200,
        }),
      );
      await waitFor(RAM + 0x200);
    });
    expect([...bench.bytes(RAM + 0x100, 4)]).toEqual([1, 2, 3, 4]);
  });

  it("computes CRC32C and CRC32 as everybody does", async () => {
    const text = new TextEncoder().encode("123456789");
    expect(crc32c(0, text)).toBe(0xe306_9283);
    expect(crc32(0, text)).toBe(0xcbf4_3926);
    expect(crc32c(crc32c(0, text.subarray(0, 4)), text.subarray(4))).toBe(0xe306_9283);
    const { bench, client, map, waitFor } = setUp();
    map(0x1000);
    map(RECORD);
    bench.memory.writeBytes(RAM + 0x1000, text);
    const record = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({ PASID, Opcode: "CRCGEN", Source: 0x1000, TransferSize: 9, ...withRecord }),
      );
      return waitFor(RAM + RECORD);
    });
    expect(record.OperationResult).toBe(0xe306_9283n);
  });

  it("follows pointers until the list ends", async () => {
    const { bench, client, map, waitFor } = setUp();
    for (const page of [0x1000, 0x2000, RECORD]) map(page);
    bench.memory.store64(RAM + 0x1010, 0, 0x2000);
    bench.memory.store64(RAM + 0x2010, 0, 0x1800);
    bench.memory.store64(RAM + 0x1810, 0, 0);
    const record = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "POINTER_CHASE",
          Source: 0x1000,
          OperationSpecific: 0x10,
          TransferSize: 100,
          ...withRecord,
        }),
      );
      return waitFor(RAM + RECORD);
    });
    expect(record).toMatchObject({ Status: "SUCCESS", BytesCompleted: 3, OperationResult: 0x1800n });
  });

  it("sorts a linked list by rewriting its pointers; equal keys keep their order", async () => {
    const { bench, client, map, waitFor } = setUp();
    for (const page of [0x1000, RECORD]) map(page);
    const node = (at: number, key: bigint, next: number) =>
      bench.memory.writeBytes(RAM + at, new Uint8Array(BigUint64Array.of(key, BigInt(next)).buffer));
    node(0x1000, 3n, 0x1100);
    node(0x1100, 1n, 0x1200);
    node(0x1200, 3n, 0x1300);
    node(0x1300, 2n ** 63n, 0x1400);
    node(0x1400, 2n, 0);
    const record = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "LIST_SORT",
          Source: 0x1000,
          OperationSpecific: 8,
          OperationSpecific1: 0,
          TransferSize: 100,
          ...withRecord,
        }),
      );
      return waitFor(RAM + RECORD);
    });
    expect(record).toMatchObject({ Status: "SUCCESS", BytesCompleted: 5, OperationResult: 0x1100n });
    const order: number[] = [];
    const word = new Uint8Array(8);
    for (let at = 0x1100; at !== 0; ) {
      order.push(at);
      bench.memory.readBytes(RAM + at + 8, word);
      at = Number(new DataView(word.buffer).getBigUint64(0, true));
    }
    expect(order).toEqual([0x1100, 0x1400, 0x1000, 0x1200, 0x1300]);
  });

  it("compares, and says where the first difference is", async () => {
    const { bench, client, map, waitFor } = setUp();
    for (const page of [0x1000, 0x2000, RECORD]) map(page);
    bench.memory.writeBytes(RAM + 0x1000, new Uint8Array(256).fill(7));
    bench.memory.writeBytes(RAM + 0x2000, new Uint8Array(256).fill(7));
    bench.memory.writeBytes(RAM + 0x2064, Uint8Array.of(8));
    const record = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "COMPARE",
          Source: 0x1000,
          Destination: 0x2000,
          TransferSize: 256,
          ...withRecord,
        }),
      );
      return waitFor(RAM + RECORD);
    });
    expect(record).toMatchObject({ Status: "SUCCESS_PREDICATE", Result: 1, BytesCompleted: 0x64 });
  });

  it("moves overlapping memory as memmove does", async () => {
    const { bench, client, map, waitFor } = setUp();
    for (let page = 0; page < 0x10; page++) map(0x1_0000 + page * 0x1000);
    map(RECORD);
    const original = Uint8Array.from({ length: 0xc000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
    bench.memory.writeBytes(RAM + 0x1_0000, original);
    const record = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "MEMMOVE",
          Source: 0x1_0000,
          Destination: 0x1_0064,
          TransferSize: 0xc000,
          ...withRecord,
        }),
      );
      return waitFor(RAM + RECORD);
    });
    expect(record).toMatchObject({ Status: "SUCCESS", Result: 1 });
    expect(bench.bytes(RAM + 0x1_0064, 0xc000)).toEqual(original);
  });

  it("runs a batch whose descriptors complete each for itself", async () => {
    const { bench, client, map, waitFor, completion } = setUp();
    map(0x1000);
    map(RECORD);
    const each = (n: number, opcode: number) =>
      encodeDescriptor({
        Opcode: opcode,
        Source: n,
        Destination: 0x1800 + n * 8,
        TransferSize: 8,
        ...withRecord,
        CompletionRecordAddress: RECORD + 32 * (n + 1),
      });
    for (let n = 0; n < 3; n++) bench.memory.writeBytes(RAM + 0x1000 + n * 64, each(n, n === 1 ? 0x3f : 4));
    const record = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({ PASID, Opcode: "BATCH", Source: 0x1000, TransferSize: 3, ...withRecord }),
      );
      return waitFor(RAM + RECORD);
    });
    expect(record).toMatchObject({ Status: "BATCH_FAIL", BytesCompleted: 3 });
    expect([1, 2, 3].map((n) => completion(RAM + RECORD + 32 * n).Status)).toEqual([
      "SUCCESS",
      "BAD_OPCODE",
      "SUCCESS",
    ]);
  });

  it("refuses submissions to a shared queue at its threshold and takes them later", async () => {
    const { bench, client, servePageFaults } = setUp({ engines: 1 });
    servePageFaults();
    const accepted = await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", size: 4, threshold: 2, pasid: "submitter" });
      const descriptor = encodeDescriptor({
        PASID,
        Opcode: "MEMFILL",
        BlockOnFault: true,
        Destination: 0x3000,
        TransferSize: 8,
      });
      const answers: boolean[] = [];
      for (let n = 0; n < 4; n++) answers.push(await client.submit(0, descriptor));
      await client.startCommand("DRAIN_WQ", 0);
      while ((await client.commandStatus()).Active) await bench.scheduler.sleep(100);
      answers.push(await client.submit(0, descriptor));
      return answers;
    });
    expect(accepted).toEqual([true, true, false, false, true]);
  });

  it("records what no completion record can tell", async () => {
    const { bench, client } = setUp();
    const error = await bench.run(async () => {
      await client.enable();
      await client.submit(2, encodeDescriptor({ PASID, Opcode: "NOOP" }));
      return client.takeSoftwareError();
    });
    expect(error).toMatchObject({ Valid: true, Error: 0x50, WorkQueue: 2 });
  });

  it("aborts a PASID: its descriptors end without a record, page requests are answered, a Stop Marker follows", async () => {
    const { bench, device, client } = setUp();
    await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "MEMFILL",
          BlockOnFault: true,
          Destination: 0x3000,
          TransferSize: 8,
          ...withRecord,
        }),
      );
      await bench.scheduler.yield();
      expect(bench.iommu.pageRequests).toHaveLength(1);
      await client.startCommand("ABORT_PASID", PASID);
      await bench.scheduler.yield();
      expect((await client.commandStatus()).Active).toBe(true);
      const { rid, prgi } = bench.iommu.pageRequests[0];
      device.pageResponse({ rid, pasid: PASID, prgi, code: PrgResponseCode.INVALID_REQUEST });
      while ((await client.commandStatus()).Active) await bench.scheduler.yield();
    });
    expect(bench.iommu.pageRequests.at(-1)).toMatchObject({
      pasid: PASID,
      read: false,
      write: false,
      last: true,
      prgi: 0,
    });
    expect(bench.bytes(RAM + RECORD, 1)[0]).toBe(0);
    expect(device.dma.pending).toBe(0);
  });

  it("interrupts through MSI-X after the record is written", async () => {
    const { bench, device, client, map, waitFor } = setUp();
    map(RECORD);
    bench.iommu.map(NO_PASID, 0xfee0_0000n, { pa: 0xfee0_0000, perms: Access.WRITE });
    const entry = new Uint8Array(Uint32Array.of(0xfee0_0000, 0, 0x41, 0).buffer);
    device.writeBar(0, 0x2000 + 3 * 16, entry);
    device.writeConfig(device.capabilities.msix + 2, 2, 0x8000);
    await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "NOOP",
          RequestCompletionInterrupt: true,
          InterruptHandle: 3,
          ...withRecord,
        }),
      );
      await waitFor(RAM + RECORD);
      await bench.scheduler.yield();
    });
    expect(bench.messages).toEqual([{ address: 0xfee0_0000, data: 0x41 }]);
  });

  it("forgets everything at a function level reset", async () => {
    const { bench, device, client, map } = setUp();
    map(0x1000);
    await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.submit(
        0,
        encodeDescriptor({
          PASID,
          Opcode: "MEMFILL",
          BlockOnFault: true,
          Destination: 0x1000,
          TransferSize: 0x2000,
          ...withRecord,
        }),
      );
      await bench.scheduler.yield();
      device.writeConfig(device.capabilities.pcie + 8, 2, 0x8000);
      await bench.scheduler.yield();
    });
    expect(device.dma.pending).toBe(0);
    expect(device.ats).toMatchObject({ enabled: false });
    expect(device.ats?.atc.size).toBe(0);
    expect(device.pri).toMatchObject({ enabled: false, outstanding: 0 });
    expect(device.pasid.enabled).toBe(false);
    expect(device.readConfig(4, 2)).toBe(0);
  });
});

describe("accelerator", () => {
  it.each([
    [{ workQueues: 17 }, "EINVAL: 0000:01:00.0: workQueues is 17; 1 to 16 are possible"],
    [{ engines: 0 }, "EINVAL: 0000:01:00.0: engines is 0; 1 to 255 are possible"],
    [{ totalSize: Number.NaN }, "totalSize is NaN; 1 to 65535"],
    [{ vectors: 1.5 }, "vectors is 1.5; 1 to 256"],
    [{ totalVfs: 256 }, "totalVfs is 256; 0 to 255"],
    [{ pasid: { width: 21 } }, "pasid.width is 21; 1 to 20"],
  ])("refuses %j", (options, says) => {
    expect(() => accelerator({ bdf: "0000:01:00.0", ...options })).toThrow(says);
  });
});

describe("a descriptor that a doorbell has fetched", () => {
  const COPY = encodeDescriptor({ PASID, Opcode: "MEMMOVE", Source: 0x1000, Destination: 0x1800, TransferSize: 64 });

  /** Its page is missing; `arrive` brings it. */
  async function ringing(body: (setUp: Rung) => Promise<void>) {
    const { bench, device, client, map } = setUp();
    await bench.run(async () => {
      await client.enable();
      await client.enableQueue(0, { mode: "shared", pasid: "submitter" });
      await client.ring(0, PASID, 0x1000n);
      await bench.scheduler.idle();
      const arrive = async () => {
        bench.memory.writeBytes(RAM + 0x1000, COPY);
        map(0x1000);
        const [{ rid, prgi }] = bench.iommu.pageRequests;
        device.pageResponse({ rid, pasid: PASID, prgi, code: PrgResponseCode.SUCCESS });
        while (device.dma.pending > 0) await bench.scheduler.sleep(100);
        await bench.scheduler.sleep(100);
      };
      const copied = () => bench.bytes(RAM + 0x1800, 64).some((byte) => byte !== 0);
      await body({ bench, device, client, arrive, copied });
    });
  }
  type Rung = Pick<ReturnType<typeof setUp>, "bench" | "device" | "client"> & {
    readonly arrive: () => Promise<void>;
    readonly copied: () => boolean;
  };

  it.each([
    ["DRAIN_PASID", PASID, true],
    ["DRAIN_WQ", 0, true],
    ["ABORT_PASID", PASID, false],
    ["ABORT_WQ", 0, false],
    ["ABORT_ALL", 0, false],
  ] as const)("is waited for by %s", async (command, operand, runs) => {
    await ringing(async ({ client, bench, arrive, copied }) => {
      await client.startCommand(command, operand);
      await bench.scheduler.idle();
      expect((await client.commandStatus()).Active).toBe(true);
      await arrive();
      expect([(await client.commandStatus()).Active, copied()]).toEqual([false, runs]);
      expect(await client.takeSoftwareError()).toBeUndefined();
    });
  });

  it("is forgotten by a reset, without a word", async () => {
    await ringing(async ({ bench, device, client }) => {
      device.reset("function");
      await bench.scheduler.idle();
      bench.enable(device);
      expect(await client.takeSoftwareError()).toBeUndefined();
    });
  });
});
