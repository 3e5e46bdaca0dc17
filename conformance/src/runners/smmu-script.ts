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
  IDR3,
  IDR5,
  OPCODE,
  PRESETS,
  Smmuv3Hardware,
  type Smmuv3Preset,
  SYNC_CS,
} from "@iommukit/iommu-smmuv3";
import type { LoadedFile } from "../load.js";
import type { Report } from "../report.js";
import { namedFields, unknownKeys } from "../script/config.js";
import {
  accessOf,
  dma,
  expectation as expectedFields,
  holdsScripts,
  pasidOf,
  runScripts,
  type ScriptCase,
  type ScriptedDevice,
  type Step,
} from "../script/device-script.js";
import { inject } from "../script/inject.js";
import { provoke } from "../script/smmu-events.js";
import { big, number } from "../script/values.js";

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

/** Why an event is not recorded although the queue could take it: CD.R, STE.S2R, CR2.RECINVSID. */
const SILENT = / is 0$/;

const OAS = [32, 36, 40, 42, 44, 48, 52];

class SmmuDevice implements ScriptedDevice {
  readonly memory = new SlabMemory([{ base: 0, size: 0x1_0000_0000 }]);
  readonly mmio: Smmuv3Hardware;
  readonly unknown: readonly string[];
  readonly #out = new Translation();
  /** Events of the last transaction, recorded or not. */
  #faults: string[] = [];
  /** Software does not want to hear of the last one. */
  #silent = false;

  constructor(script: ScriptCase) {
    const scheduler = new VirtualTimeScheduler();
    const trace = new Tracer(() => scheduler.now);
    const ports: ChipPorts = {
      memory: this.memory,
      message: () => false,
      wire: () => {},
      requesters: { find: () => undefined },
      scheduler,
      trace,
    };
    this.unknown = unknownKeys({ ...script.config }, CONFIG, [IDR0, IDR1, IDR3, IDR5]);
    this.mmio = new Smmuv3Hardware(ports, { name: "smmuv3", preset: presetFor(script) });
    trace.on("fault:recorded", ({ fault }) => this.#faults.push(fault));
    trace.on("fault:dropped", ({ fault, reason }) => {
      this.#faults.push(fault);
      this.#silent = SILENT.test(reason);
    });
  }

  step(step: Step): string | undefined {
    switch (step.op) {
      case "translate":
        return this.#translation(this.#access(step, big(step.iova), accessOf(step)), expectation(step));
      case "dma_write":
      case "dma_read":
        return this.#dma(step);
      case "record_event":
        return this.#recordEvent(step);
      case "msi":
        return this.#message(step);
      case "inject":
        return inject(this.mmio.registers, String(step.what));
      case "cap_expect":
        return "";
      default:
        return undefined;
    }
  }

  #access(step: Step, iova: bigint, access: number): number {
    this.#faults = [];
    this.#silent = false;
    return this.mmio.translate(stream(step), pasidOf(step), hi32(iova), lo32(iova), access, this.#out);
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
    if (event === undefined) return "";
    const faults = this.#faults.join();
    const matches =
      event === "ABORT_NO_EVENT" ? faults === "" || this.#silent : event === "ANY_ERROR" || faults === event;
    return status !== TranslationStatus.OK && matches ? "" : `expected ${event}, got ${got}`;
  }

  /** What is expected of the translation is expected of the first page. */
  #dma(step: Step): string {
    const expected = expectation(step);
    const access = accessOf({ ...step, write: step.op === "dma_write" });
    return dma(step, this.memory, (iova, first) => {
      const status = this.#access(step, iova, access);
      const checked = first && (expected.pa !== undefined || expected.event !== undefined);
      const failed = checked ? this.#translation(status, expected) : "";
      if (failed !== "" || expected.event !== undefined) return failed;
      return status === TranslationStatus.OK ? this.#pa : this.#faults.join() || "no event";
    });
  }

  /** A device's interrupt is a write like any other: the address is translated, the data stays. */
  #message(step: Step): string {
    const { addr, ...expected } = expectation(step) as Expected & { readonly addr?: string };
    const status = this.#access(step, big(step.addr), Access.WRITE);
    return this.#translation(status, { pa: addr, ...expected });
  }

  /** Makes one transaction run into the event. */
  #recordEvent(step: Step): string {
    const id = number(step.event_id);
    const sid = stream(step);
    const restore = provoke(this.mmio, this.memory, id, sid);
    if (restore === undefined) return `event ${hex(id)} cannot be provoked here`;
    this.#access(step, big(step.input_addr ?? 0), accessOf(step));
    restore();
    return "";
  }
}

/** StreamID of a step: on these machines the requester's number. */
function stream(step: Step): number {
  return number(step.sid ?? step.rid);
}

/** An event may be told by its name or by its number. */
function expectation(step: Step): Expected {
  const expected = expectedFields(step, "event") as Expected;
  if (expected.event !== undefined || (expected.event_id ?? undefined) === undefined) return expected;
  const id = number(expected.event_id);
  return { ...expected, event: EVENTS.get(id)?.name ?? hex(id) };
}

/** The chip that the script was written for. Messages exist where the script uses them. */
function presetFor({ config: named, steps }: ScriptCase): Smmuv3Preset {
  const given = named ?? {};
  const config = given as Config;
  const base = PRESETS["qemu-11-virt"];
  // OpenVMM's chip, whose scripts name their StreamID size, has no SubstreamIDs and nothing of IDR3.
  const small = config.sidsize !== undefined;
  const { SIDSIZE, SSIDSIZE, CMDQS, EVENTQS, ...idr1 } = IDR1.decode(Int32Array.of(base.idr1));
  const granule = (name: string) => config.gran?.includes(name) ?? true;
  return {
    ...base,
    name: "script",
    idr0: IDR0.encode({
      ...IDR0.decode(Int32Array.of(base.idr0)),
      MSI: steps.some(usesMessages),
      ST_LEVEL: config.two_level_strtab === 0 ? "linear" : "twoLevel",
      ...namedFields(given, IDR0),
    })[0],
    idr1: IDR1.encode({
      ...idr1,
      SIDSIZE,
      SSIDSIZE: small ? 0 : SSIDSIZE,
      CMDQS: config.cmdqs_log2 ?? CMDQS,
      EVENTQS: config.evtqs_log2 ?? EVENTQS,
      ...namedFields(given, IDR1),
    })[0],
    idr3: IDR3.encode({ ...(small ? {} : IDR3.decode(Int32Array.of(base.idr3))), ...namedFields(given, IDR3) })[0],
    idr5: IDR5.encode({
      OAS: config.oas_bits === undefined ? IDR5.OAS.get(Int32Array.of(base.idr5)) : OAS.indexOf(config.oas_bits),
      GRAN4K: granule("4K"),
      GRAN16K: granule("16K"),
      GRAN64K: granule("64K"),
      ...namedFields(given, IDR5),
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
