/**
 * `smmu-script`: register, queue and table scripts of other SMMUv3 implementations. Size and features of the chip come from the
 * script's `config`.
 */
import {
  Access,
  bareBoard,
  hex,
  hi32,
  lo32,
  physical,
  SlabMemory,
  Translation,
  TranslationStatus,
} from "@iommukit/core";
import { EVENT, EVENTS, Smmuv3Hardware } from "@iommukit/iommu-smmuv3";
import type { LoadedFile } from "../load.js";
import type { Report } from "../report.js";
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
import { SMMU_CONFIG, smmuPreset, unknownToSmmu } from "../script/smmu-preset.js";
import { big, number } from "../script/values.js";

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
    const board = bareBoard(this.memory, { message: () => false });
    const { trace } = board;
    this.unknown = unknownToSmmu(script);
    this.mmio = new Smmuv3Hardware(board, { name: "smmuv3", preset: smmuPreset(script) });
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
    const id = number(step.event_id ?? (EVENT as Readonly<Record<string, number>>)[String(step.event)]);
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

export const holds = "scripts for an SMMUv3";

export function recognises(file: LoadedFile): boolean {
  return holdsScripts(file, SMMU_CONFIG, (step) => step?.sid !== undefined);
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  runScripts(files, (script) => new SmmuDevice(script), report);
}
