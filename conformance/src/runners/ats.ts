/**
 * `ats`: what becomes of page requests, responses and invalidate completions, case by case on both backends with their
 * drivers. The vectors come from a RISC-V reference model. PCIe's messages are the same everywhere; three things are an
 * architecture's own and are left out of the comparison:
 * - which code refuses a request: there the chip's Invalid Request, here sometimes the driver's Response Failure;
 * - SMMUv3's own Response Failure has no PASID (8.1); - VT-d has no PRG Response PASID Required: its own answers have the
 *   PASID of the request (7.4.1), and it records a stray completion as an error (FSTS.ICE) before it ignores it.
 * What only the peer's registers have is not applicable.
 */
import {
  createPlatform,
  type DevicePlugin,
  IOMMU_SVA_FEAT_IOPF,
  type IommuPlugin,
  type IopfResponseCode,
  NO_PASID,
  type Platform,
} from "@iommukit/core";
import { CR0, PRIQ_BASE, smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator } from "@iommukit/pci-device";
import { aboutInvalidations, playInvalidations } from "../ats/invalidation-cases.js";
import { type LoadedFile, listIn } from "../load.js";
import type { Report } from "../report.js";

interface AtsCase {
  readonly name: string;
  readonly stimulus: string;
  readonly expect: string;
}

interface Answer {
  readonly rid: number;
  readonly pasid: number;
  readonly prgi: number;
  readonly code: string;
}

const BDF = "0000:12:06.4";
const RID = 0x1234;
const UNKNOWN_RID = 0x1122;
/** PASID of responses that software makes up; requests have that of a bound process. */
const RESPONSE_PASID = 0xbabec;
const PRGI = 7;

const BACKENDS: Readonly<Record<string, () => IommuPlugin>> = { smmuv3: () => smmuv3(), vtd: () => vtd() };

/** A machine with one function, and what its IOMMU answers. */
class Machine {
  readonly answers: Answer[] = [];
  readonly dropped: string[] = [];
  /** Of the bound process, or one that nobody has. */
  pasid = 1;

  private constructor(
    readonly backend: string,
    readonly platform: Platform,
  ) {
    platform.trace.on("pri:answered", ({ rid, pasid, prgi, code }) => this.answers.push({ rid, pasid, prgi, code }));
    platform.trace.on("pri:dropped", ({ reason }) => this.dropped.push(reason));
  }

  static async create(backend: string, pasidRequired: boolean): Promise<Machine> {
    const device: DevicePlugin = accelerator({ bdf: BDF, pri: { pasidRequired } });
    return new Machine(backend, await createPlatform({ iommus: [BACKENDS[backend]()], devices: [device] }));
  }

  get chip() {
    return this.platform.iommus[0].chip;
  }

  /** PASID, PRI and ATS on, and a process bound. */
  enable(): Promise<void> {
    const { platform } = this;
    const device = platform.device(BDF);
    return platform.run(async () => {
      const { mm } = platform.kernel.spawn();
      await platform.sva.iommuSvaDeviceInit(device, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
      if (mm) this.pasid = await platform.sva.iommuSvaBindDevice(device, mm, IOMMU_SVA_FEAT_IOPF);
    });
  }

  request(rid: number, last: boolean): void {
    this.chip.pageRequest({
      rid,
      pasid: this.pasid,
      hi: 0,
      lo: 0x5000,
      read: true,
      write: true,
      execute: false,
      privileged: false,
      last,
      prgi: PRGI,
    });
  }

  /** Requests that close no group, until one is lost. The driver does not run meanwhile. */
  fillQueue(): void {
    for (let n = 0; n < 2 ** 20 && this.dropped.length === 0; n++) this.request(RID, false);
    this.dropped.length = 0;
    this.answers.length = 0;
  }

  /** Lets the driver and the kernel work until nothing is left to do. */
  settle(): Promise<void> {
    return this.platform.run(() => this.platform.scheduler.idle());
  }
}

export const holds = "cases of page requests and responses";

export function recognises(file: LoadedFile): boolean {
  return listIn<AtsCase>(file, "cases").some((one) => typeof one?.stimulus === "string");
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  for (const one of files.flatMap((file) => listIn<AtsCase>(file, "cases"))) {
    for (const backend of Object.keys(BACKENDS))
      await report.attempt(`${one?.name} on ${backend}`, () => judge(one as AtsCase, backend, report));
  }
}

async function judge(one: AtsCase, backend: string, report: Report): Promise<void> {
  const outcome = await play(one, backend);
  if (outcome === undefined) report.notApplicable(`${backend}: ${one.stimulus}`);
  else if (outcome === "") report.pass();
  else report.fail(`${one.name} on ${backend}: ${outcome}; expected: ${one.expect}`);
}

/** @returns what is wrong, "" when nothing is, undefined when the backend has no such situation */
async function play({ name, stimulus, expect }: AtsCase, backend: string): Promise<string | undefined> {
  const words = `${name} ${stimulus}`;
  if (aboutInvalidations(words)) return playInvalidations(words, backend);
  const machine = await Machine.create(backend, /PRPR=1|PV=1/.test(stimulus));
  if (/completion/i.test(stimulus)) return spuriousCompletion(machine);
  if (stimulus.startsWith("PRGR")) return softwareResponse(machine, /PV=1/.test(stimulus));
  const unknown = /no device context/.test(stimulus);
  if (!unknown && !/EN_ATS=0|EN_PRI=0/.test(stimulus)) await machine.enable();
  if (/\b(pqcsr|pqen|pie|ipsr|cqcsr)\b/.test(stimulus)) return undefined;
  if (/queue (is )?(off|disabled)/.test(stimulus) && !(await queueOff(machine))) return undefined;
  if (/queue faults|memory fault/.test(stimulus) && !(await queueFaults(machine))) return undefined;
  if (/full|overflow/.test(stimulus)) machine.fillQueue();
  if (/overflow bit cleared/.test(stimulus)) {
    await machine.settle();
    machine.answers.length = 0;
  }
  const last = !/L=0/.test(stimulus);
  machine.request(unknown ? UNKNOWN_RID : RID, last);
  return compare(machine, expect);
}

async function compare(machine: Machine, expect: string): Promise<string> {
  const atOnce = [...machine.answers];
  const lost = machine.dropped.length > 0;
  if (/logged|queued/.test(expect)) {
    if (atOnce.length > 0 || lost)
      return `answered at once or lost: ${JSON.stringify(atOnce)} ${machine.dropped.join()}`;
    await machine.settle();
    return machine.answers.some(({ rid, prgi }) => rid === RID && prgi === PRGI) ? "" : "software never saw it";
  }
  if (expect.startsWith("no response")) return atOnce.length === 0 && lost ? "" : `answers: ${JSON.stringify(atOnce)}`;
  await machine.settle();
  const [answer] = machine.answers;
  if (answer === undefined || machine.answers.length > 1) return `${machine.answers.length} answers`;
  if (/Success/.test(expect) !== (answer.code === "success")) return `the answer is ${answer.code}`;
  const wanted = pasidOf(expect, machine);
  return wanted === undefined || wanted === answer.pasid ? "" : `the answer has PASID ${answer.pasid}`;
}

/** PASID that the answer must have; undefined where the backend's architecture has its own rule. */
function pasidOf(expect: string, { backend, pasid }: Machine): number | undefined {
  if (backend === "smmuv3" && /Failure/.test(expect)) return undefined;
  if (/PASID kept|with PASID|PV=1/.test(expect)) return pasid;
  if (/without PASID|PV=0/.test(expect)) return backend === "vtd" ? undefined : NO_PASID;
  return undefined;
}

/** A response that software sends reaches the function as it is. */
async function softwareResponse({ platform, answers }: Machine, withPasid: boolean): Promise<string> {
  const device = platform.device(BDF);
  const codes: readonly IopfResponseCode[] = ["success", "invalid", "failure"];
  for (const code of codes) {
    const response = { pasid: withPasid ? RESPONSE_PASID : NO_PASID, grpid: PRGI, code, responseNeedsPasid: withPasid };
    await platform.run(async () => device.iommu?.ops.pageResponse?.(device, response));
  }
  const expected = codes.map((code) => ({ rid: RID, pasid: withPasid ? RESPONSE_PASID : NO_PASID, prgi: PRGI, code }));
  return JSON.stringify(answers) === JSON.stringify(expected) ? "" : `messages: ${JSON.stringify(answers)}`;
}

/** Completions that nobody waits for change nothing: requests are served as before. */
async function spuriousCompletion(machine: Machine): Promise<string> {
  await machine.enable();
  machine.chip.invalidateCompletion({ rid: UNKNOWN_RID, itagVector: 1 << 9, count: 1 });
  machine.chip.invalidateCompletion({ rid: RID, itagVector: -1 >>> 0, count: 1 });
  await machine.settle();
  machine.request(RID, true);
  return compare(machine, "queued");
}

/** VT-d has no switch for the queue alone. */
async function queueOff({ backend, chip }: Machine): Promise<boolean> {
  if (backend !== "smmuv3") return false;
  chip.write32(CR0.offset, chip.read32(CR0.offset) & ~CR0.PRIQEN.lowMask);
  return true;
}

async function queueFaults(machine: Machine): Promise<boolean> {
  if (!(await queueOff(machine))) return false;
  const { chip } = machine;
  chip.write64(PRIQ_BASE.offset, (chip.read64(PRIQ_BASE.offset) & 0xfffn) | 0xdead_0000n);
  chip.write32(CR0.offset, chip.read32(CR0.offset) | CR0.PRIQEN.lowMask);
  return true;
}
