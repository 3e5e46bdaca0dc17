/**
 * `--mode edu`: one script of register accesses and DMAs, run on our `edu` behind our IOMMU and on QEMU's behind QEMU's, both
 * set up by the same driver with the same pages. Every register read and every byte of the pages has to be the same.
 */
import {
  type Device,
  type IommuDomain,
  type IommuOps,
  IommuProt,
  newGather,
  PAGE_SIZE,
  type PageAllocator,
  type PhysicalMemory,
  Random,
} from "@iommukit/core";
import type { Report } from "../report.js";

/** One of the two machines. */
export interface EduMachine {
  readonly memory: PhysicalMemory;
  readonly pages: PageAllocator;
  readonly ops: IommuOps;
  readonly device: Device;
  /** Register access through BAR 0, 4 or 8 bytes wide. */
  read(offset: number, width: 4 | 8): bigint;
  write(offset: number, width: 4 | 8, value: bigint): void;
  /** Lets the device finish what it was told to do. */
  pass(): Promise<void>;
}

const PAGES = 6;
const IOVA = 0x10_0000;
/** Which pages of the IOVA range are mapped, and how: page 3 not at all, page 5 read-only. */
const RIGHTS = [3, 3, 3, 0, 3, IommuProt.READ];
const BUFFER = 0x40000;
const REGISTERS = [0x00, 0x04, 0x08, 0x0c, 0x20, 0x24, 0x30, 0x60, 0x64, 0x80, 0x84, 0x88, 0x90, 0x98, 0xa0] as const;
/** Longest DMA: every 4 bytes that fault are an event, and queues are finite. */
const LONGEST = 96;
/** Steps between two looks at all of memory. */
const LOOK = 16;

class Side {
  #frames = 0;
  #domain: IommuDomain | undefined;

  constructor(readonly machine: EduMachine) {}

  async setUp(): Promise<void> {
    const { pages, ops, device } = this.machine;
    this.#frames = pages.alloc(PAGES, "frames");
    const domain = ops.domainAlloc("unmanaged", device);
    await ops.attachDev(domain, device);
    this.#domain = domain;
    for (const [page, prot] of RIGHTS.entries()) {
      if (prot === 0) continue;
      ops.map(domain, BigInt(IOVA + page * PAGE_SIZE), this.#frames + page * PAGE_SIZE, PAGE_SIZE, 1, prot);
    }
    await ops.iotlbSyncMap(domain, BigInt(IOVA), BigInt(PAGES * PAGE_SIZE));
  }

  fill(seed: number): void {
    const random = new Random(seed);
    const words = Uint32Array.from({ length: (PAGES * PAGE_SIZE) / 4 }, () => random.u32());
    this.machine.memory.writeBytes(this.#frames, new Uint8Array(words.buffer));
  }

  ram(): string {
    const bytes = new Uint8Array(PAGES * PAGE_SIZE);
    this.machine.memory.readBytes(this.#frames, bytes);
    return Buffer.from(bytes).toString("base64");
  }

  async takeDown(): Promise<void> {
    const { pages, ops, device } = this.machine;
    if (!this.#domain) return;
    ops.unmap(this.#domain, BigInt(IOVA), PAGE_SIZE, PAGES, newGather());
    await ops.flushIotlbAll(this.#domain);
    await ops.detachDev(this.#domain, device);
    ops.domainFree(this.#domain);
    pages.free(this.#frames);
  }
}

/** A step does the same on each side and tells what was read. */
type Step = (machine: EduMachine) => Promise<readonly bigint[]>;

function randomStep(random: Random): { readonly text: string; readonly step: Step } {
  switch (random.below(6)) {
    case 0:
      return registerRead(random);
    case 1:
      return registerWrite(random);
    case 2:
      return factorial(random.below(30));
    default:
      return dma(random);
  }
}

function registerRead(random: Random): { readonly text: string; readonly step: Step } {
  const offset = random.pick(REGISTERS);
  const width = random.below(3) === 0 ? 8 : 4;
  return { text: `read ${width} at 0x${offset.toString(16)}`, step: async (machine) => [machine.read(offset, width)] };
}

/** Liveness, status, interrupts raised and acknowledged. */
function registerWrite(random: Random): { readonly text: string; readonly step: Step } {
  const offset = random.pick([0x04, 0x20, 0x60, 0x64]);
  const value = BigInt(offset === 0x20 ? 0x80 * random.below(2) : random.u32());
  const step: Step = async (machine) => {
    machine.write(offset, 4, value);
    return [0x04, 0x20, 0x24].map((register) => machine.read(register, 4));
  };
  return { text: `write 0x${value.toString(16)} at 0x${offset.toString(16)}`, step };
}

function factorial(n: number): { readonly text: string; readonly step: Step } {
  const step: Step = async (machine) => {
    machine.write(0x08, 4, BigInt(n));
    await machine.pass();
    return [machine.read(0x08, 4), machine.read(0x24, 4)];
  };
  return { text: `${n}!`, step };
}

/** Somewhere around the mapped pages, over their borders too. */
function dma(random: Random): { readonly text: string; readonly step: Step } {
  const length = 1 + random.below(LONGEST);
  const border = IOVA + PAGE_SIZE * random.below(PAGES);
  const address = BigInt(border + (random.below(2) === 0 ? -random.below(LONGEST) : random.below(PAGE_SIZE - LONGEST)));
  const buffer = BigInt(BUFFER + random.below(PAGE_SIZE - LONGEST));
  const command = BigInt(1 | (2 * random.below(2)) | (4 * random.below(2)));
  const outward = (command & 2n) !== 0n;
  const step: Step = async (machine) => {
    machine.write(0x80, 8, outward ? buffer : address);
    machine.write(0x88, 8, outward ? address : buffer);
    machine.write(0x90, 8, BigInt(length));
    machine.write(0x98, 4, command);
    // The registers are locked while it runs.
    machine.write(0x80, 8, 0n);
    await machine.pass();
    return [0x80, 0x88, 0x90, 0x98].map((register) => machine.read(register, 8));
  };
  return { text: `DMA ${outward ? "to" : "from"} 0x${address.toString(16)}+${length} (${command})`, step };
}

export async function runEduScript(
  ours: EduMachine,
  qemu: EduMachine,
  cases: number,
  seed: number,
  report: Report,
): Promise<void> {
  const sides = [new Side(ours), new Side(qemu)];
  for (const side of sides) await side.setUp();
  const random = new Random(seed);
  for (let done = 0; done < cases; done++) {
    if (done % LOOK === 0) for (const side of sides) side.fill(seed + done);
    const { text, step } = randomStep(random);
    const [here, there] = [await step(ours), await step(qemu)];
    const looked = done % LOOK === LOOK - 1 || done === cases - 1;
    const same = here.join() === there.join() && (!looked || sides[0].ram() === sides[1].ram());
    if (same) report.pass();
    else
      report.fail(
        `step ${done}, ${text}: ours ${here.join()}, QEMU ${there.join()}${looked ? ", or memory differs" : ""}`,
      );
  }
  for (const side of sides) await side.takeDown();
}
