/**
 * `smmu-script`: register, queue and table scripts of other SMMUv3 implementations. Size and features of the chip come from the
 * script's `config`.
 */
import {
  Access,
  type ChipPorts,
  hex,
  hi32,
  lo32,
  NO_PASID,
  physical,
  SlabMemory,
  Tracer,
  Translation,
  TranslationStatus,
  VirtualTimeScheduler,
} from "@iommukit/core";
import {
  CMD_SYNC,
  EVENTS,
  IDR0,
  IDR1,
  IDR5,
  OPCODE,
  PRESETS,
  Smmuv3Hardware,
  type Smmuv3Preset,
  SYNC_CS,
} from "@iommukit/iommu-smmuv3";
import type { LoadedFile } from "../load.js";
import type { Report } from "../report.js";
import {
  big,
  dma,
  holdsScripts,
  number,
  runScripts,
  type ScriptCase,
  type ScriptedDevice,
  type Step,
} from "./device-script.js";
import { provoke } from "./smmu-events.js";

interface Config {
  readonly sidsize?: number;
  readonly oas_bits?: number;
  readonly cmdqs_log2?: number;
  readonly evtqs_log2?: number;
  readonly s1p?: number;
  readonly s2p?: number;
  readonly gran?: readonly string[];
  readonly two_level_strtab?: number;
}

interface Expected {
  readonly pa?: string;
  readonly page_size?: string;
  /** A name, or ABORT_NO_EVENT, or ANY_ERROR. */
  readonly event?: string;
  /** Its number, where there is no name. */
  readonly event_id?: unknown;
}

const OAS = [32, 36, 40, 42, 44, 48, 52];

class SmmuDevice implements ScriptedDevice {
  readonly memory = new SlabMemory([{ base: 0, size: 0x1_0000_0000 }]);
  readonly mmio: Smmuv3Hardware;
  readonly #out = new Translation();
  /** Events of the last transaction, recorded or not. */
  #faults: string[] = [];

  constructor(script: ScriptCase) {
    const scheduler = new VirtualTimeScheduler();
    const trace = new Tracer(() => scheduler.now);
    const ports: ChipPorts = {
      memory: this.memory,
      message: () => true,
      wire: () => {},
      requesters: { find: () => undefined },
      scheduler,
      trace,
    };
    this.mmio = new Smmuv3Hardware(ports, { name: "smmuv3", preset: presetFor(script) });
    trace.on("fault:recorded", ({ fault }) => this.#faults.push(fault));
    trace.on("fault:dropped", ({ fault }) => this.#faults.push(fault));
  }

  step(step: Step): string | undefined {
    switch (step.op) {
      case "translate":
        return this.#translation(this.#access(stream(step), big(step.iova), step.write === true), expectation(step));
      case "dma_write":
      case "dma_read":
        return this.#dma(step);
      case "record_event":
        return this.#recordEvent(step);
      case "cap_expect":
        return "";
      default:
        return undefined;
    }
  }

  #access(sid: number, iova: bigint, write: boolean): number {
    this.#faults = [];
    const access = write ? Access.WRITE : Access.READ;
    return this.mmio.translate(sid, NO_PASID, hi32(iova), lo32(iova), access, this.#out);
  }

  get #pa(): number {
    return physical(this.#out.hi, this.#out.lo);
  }

  #translation(status: number, { pa, page_size, event }: Expected): string {
    const got = status === TranslationStatus.OK ? hex(this.#pa) : this.#faults.join() || "no event";
    if (pa !== undefined) {
      if (status !== TranslationStatus.OK || this.#pa !== number(pa)) return `expected ${hex(number(pa))}, got ${got}`;
      if (page_size === undefined || 2 ** this.#out.shift === number(page_size)) return "";
      return `expected a page of ${page_size}, got ${hex(2 ** this.#out.shift)}`;
    }
    const wanted = event === "ABORT_NO_EVENT" ? "" : event;
    const matches = event === "ANY_ERROR" || this.#faults.join() === wanted;
    return status !== TranslationStatus.OK && matches ? "" : `expected ${event}, got ${got}`;
  }

  /** What is expected of the translation is expected of the first page. */
  #dma(step: Step): string {
    const expected = expectation(step);
    return dma(step, this.memory, (iova, first) => {
      const status = this.#access(stream(step), iova, step.op === "dma_write");
      const checked = first && (expected.pa !== undefined || expected.event !== undefined);
      const failed = checked ? this.#translation(status, expected) : "";
      if (failed !== "" || expected.event !== undefined) return failed;
      return status === TranslationStatus.OK ? this.#pa : this.#faults.join() || "no event";
    });
  }

  /** Makes one transaction run into the event. */
  #recordEvent(step: Step): string {
    const id = number(step.event_id);
    const sid = stream(step);
    const restore = provoke(this.mmio, this.memory, id, sid);
    if (restore === undefined) return `event ${hex(id)} cannot be provoked here`;
    this.#access(sid, big(step.input_addr ?? 0), step.write === true);
    restore();
    return "";
  }
}

/** StreamID of a step: on these machines the requester's number. */
function stream(step: Step): number {
  return number(step.sid ?? step.rid);
}

/** What a step expects; any failure where it says so in one word. */
function expectation({ expect }: Step): Expected {
  if (typeof expect === "string") return { event: expect };
  const expected = (expect ?? {}) as Expected;
  if (expected.event !== undefined || expected.event_id === undefined) return expected;
  const id = number(expected.event_id);
  return { ...expected, event: EVENTS.get(id)?.name ?? hex(id) };
}

/** The chip that the script was written for. Messages exist where the script uses them. */
function presetFor({ config: given = {}, steps }: ScriptCase): Smmuv3Preset {
  const config = given as Config;
  const base = PRESETS["qemu-11-virt"];
  const idr0 = IDR0.decode(Int32Array.of(base.idr0));
  const idr1 = IDR1.decode(Int32Array.of(base.idr1));
  const idr5 = IDR5.decode(Int32Array.of(base.idr5));
  const granule = (name: string) => config.gran?.includes(name) ?? true;
  return {
    ...base,
    name: "script",
    idr0: IDR0.encode({
      ...idr0,
      S1P: config.s1p !== 0,
      S2P: config.s2p !== 0,
      MSI: steps.some(usesMessages),
      ST_LEVEL: config.two_level_strtab === 0 ? "linear" : "twoLevel",
    })[0],
    idr1: IDR1.encode({
      ...idr1,
      SIDSIZE: config.sidsize ?? idr1.SIDSIZE,
      CMDQS: config.cmdqs_log2 ?? idr1.CMDQS,
      EVENTQS: config.evtqs_log2 ?? idr1.EVENTQS,
    })[0],
    // OpenVMM's chip, whose scripts name their StreamID size, has nothing of IDR3.
    idr3: config.sidsize === undefined ? base.idr3 : 0,
    idr5: IDR5.encode({
      OAS: config.oas_bits === undefined ? idr5.OAS : OAS.indexOf(config.oas_bits),
      GRAN4K: granule("4K"),
      GRAN16K: granule("16K"),
      GRAN64K: granule("64K"),
    })[0],
    aidr: 3,
  };
}

/** Programs an interrupt's message, or is a CMD_SYNC that signals with one (CS = 1). */
function usesMessages(step: Step): boolean {
  if (step.op === "mmio_write") return [0x68, 0xb0].includes(Number(step.off));
  if (step.op !== "mem_write") return false;
  const word = Number(big(step.value) & 0xffff_ffffn);
  return (word & 0xff) === OPCODE.SYNC && CMD_SYNC.CS.get(Int32Array.of(word, 0, 0, 0)) === SYNC_CS.irq;
}

/** The keys of `config` that say what the chip has. */
const CONFIG: readonly (keyof Config)[] = [
  "sidsize",
  "oas_bits",
  "cmdqs_log2",
  "evtqs_log2",
  "s1p",
  "s2p",
  "gran",
  "two_level_strtab",
];

export const holds = "scripts for an SMMUv3";

export function recognises(file: LoadedFile): boolean {
  return holdsScripts(file, CONFIG, (step) => step?.sid !== undefined);
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  runScripts(files, (script) => new SmmuDevice(script), report);
}
