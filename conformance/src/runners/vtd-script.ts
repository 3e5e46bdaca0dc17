/**
 * `vtd-script`: register, queue, table and interrupt scripts of other VT-d emulators. The unit's capabilities come from the
 * script's `config`.
 */
import { bareBoard, hex, hi32, lo32, physical, SlabMemory, Translation, TranslationStatus } from "@iommukit/core";
import { FRCD, type FrcdRegisters, FSTS, frcdRegisters, interruptIndex, VtdHardware } from "@iommukit/iommu-vtd";
import type { LoadedFile } from "../load.js";
import type { Report } from "../report.js";
import {
  accessOf,
  dma,
  expectation as expectedFields,
  holdsScripts,
  pasidOf,
  runScripts,
  type ScriptedDevice,
  type Step,
} from "../script/device-script.js";
import { inject } from "../script/inject.js";
import { big, number } from "../script/values.js";
import { unknownToVtd, VTD_CONFIG, vtdPreset } from "../script/vtd-preset.js";

type Expected = Readonly<Record<string, unknown>>;

/** RAM on both sides of the range below 4 GiB that belongs to devices. */
const RAM = [
  { base: 0, size: 0xc000_0000 },
  { base: 0x1_0000_0000, size: 0x1_0000_0000 },
];

class VtdDevice implements ScriptedDevice {
  readonly memory = new SlabMemory(RAM);
  readonly mmio: VtdHardware;
  readonly unknown: readonly string[];
  readonly #out = new Translation();
  /** Reasons of the faults that the last request met, recorded or not. */
  #faults: number[] = [];

  constructor(config: Readonly<Record<string, unknown>>) {
    const board = bareBoard(this.memory);
    const { trace } = board;
    this.unknown = unknownToVtd(config);
    this.mmio = new VtdHardware(board, { name: "vtd", preset: vtdPreset(config) });
    trace.on("fault:recorded", ({ fault }) => this.#faults.push(Number.parseInt(fault, 16)));
    trace.on("fault:dropped", ({ fault }) => this.#faults.push(Number.parseInt(fault, 16)));
  }

  step(step: Step): string | undefined {
    switch (step.op) {
      case "translate":
        return this.#translation(this.#translate(step, big(step.iova), accessOf(step)), expectation(step));
      case "dma_read":
      case "dma_write":
        return this.#dma(step);
      case "msi":
        return this.#msi(step);
      case "irte_index":
        return same("interrupt index", step.expect, interruptIndex(number(step.addr), number(step.data)));
      case "inject":
        return this.#inject(String(step.what));
      case "frcd_expect":
        return this.#record(step);
      case "cap_expect":
        return this.#capabilities(step);
      default:
        return undefined;
    }
  }

  #translate(step: Step, iova: bigint, access: number): number {
    this.#faults = [];
    return this.mmio.translate(number(step.rid), pasidOf(step), hi32(iova), lo32(iova), access, this.#out);
  }

  /** Difference between an answer and what is expected: an address, a fault with its reason and record, or just any fault. */
  #translation(status: number, expected: Expected): string {
    const { pa, page_size } = expected;
    if (pa === undefined && !expectsFault(expected)) return "";
    if (pa !== undefined) {
      if (status !== TranslationStatus.OK) return `expected ${JSON.stringify(pa)}, got fault ${this.#reasons()}`;
      return (
        same("physical address", pa, physical(this.#out.hi, this.#out.lo)) ||
        same("page size", page_size, 2 ** this.#out.shift)
      );
    }
    const got = () => hex(physical(this.#out.hi, this.#out.lo));
    return this.#blocked(status !== TranslationStatus.OK, got, expected);
  }

  /** A request that is expected to fault, with that reason and record. */
  #blocked(faulted: boolean, got: () => string, { fault_reason, frcd }: Expected): string {
    const reason = fault_reason === undefined ? "of any kind" : JSON.stringify(fault_reason);
    if (!faulted) return `expected fault ${reason}, got ${got()}`;
    if (fault_reason !== undefined && this.#faults.at(-1) !== number(fault_reason))
      return `expected fault ${reason}, got ${this.#reasons()}`;
    return frcd === undefined ? "" : this.#anyRecord(frcd as Expected);
  }

  #reasons(): string {
    return this.#faults.map((code) => hex(code)).join(", ") || "none";
  }

  /** A fault recording register against fields whose names start as the specification's: "F", "SID", "T(type: 1=read)". */
  #record(step: Step): string {
    const record = this.#records.at(number(step.index ?? 0));
    if (record === undefined) return `no fault recording register ${String(step.index)}`;
    const fields = Object.entries(step).filter(([name]) => name !== "op" && name !== "index");
    return this.#differs(record, Object.fromEntries(fields));
  }

  /** The record of the last request is in one of the registers. */
  #anyRecord(expected: Expected): string {
    const differences = this.#records.map((record) => this.#differs(record, expected));
    return differences.includes("") ? "" : differences[0];
  }

  get #records() {
    const { cap } = this.mmio.capabilities;
    return frcdRegisters(cap.FRO, cap.NFR + 1);
  }

  #differs({ LO }: FrcdRegisters, expected: Expected): string {
    for (const [label, wanted] of Object.entries(expected)) {
      const name = /^\w+/.exec(label)?.[0] ?? "";
      const field = FRCD.fields.find((each) => each.name === (name === "T" ? "T1" : name));
      if (field === undefined) return `no field ${label} in a fault record`;
      const actual = field.getBig(this.mmio.registers.words, LO.index);
      const difference = same(`FRCD.${label}`, wanted, actual);
      if (difference !== "") return difference;
    }
    return "";
  }

  /** A device's access, page by page; what is expected of its translation is expected of the first page. */
  #dma(step: Step): string {
    const access = accessOf({ ...step, write: step.op === "dma_write" });
    const expected = expectation(step);
    return dma(step, this.memory, (iova, first) => {
      const status = this.#translate(step, iova, access);
      const failed = first ? this.#translation(status, expected) : "";
      if (failed !== "" || expectsFault(expected)) return failed;
      return status === TranslationStatus.OK ? physical(this.#out.hi, this.#out.lo) : `fault ${this.#reasons()}`;
    });
  }

  #msi(step: Step): string {
    // A word alone may also say that the message goes as it came.
    const passes = typeof step.expect === "string" && /pass|unchanged/i.test(step.expect);
    const expected = passes ? { addr: step.addr, data: step.data } : expectation(step);
    const { interrupts } = this.mmio;
    this.#faults = [];
    const status = this.mmio.interrupt(number(step.rid), number(step.addr), number(step.data));
    if (expectsFault(expected))
      return this.#blocked(status === TranslationStatus.FAULT, () => "an interrupt", expected);
    if (status !== TranslationStatus.INTERRUPT) return `expected an interrupt, got fault ${this.#reasons()}`;
    const { address, data, destination } = interrupts.last;
    return (
      same("APIC id", expected.apic_id, destination) ||
      masked("address", expected.addr, address, expected.addr_mask) ||
      masked("data", expected.data, data, expected.data_mask)
    );
  }

  #inject(what: string): string {
    const unknown = inject(this.mmio.registers, what);
    const { words } = this.mmio.registers;
    // PPF is no state of its own: the OR of F of all records (7.2.1).
    const pending = this.#records.some(({ LO }) => FRCD.F.get(words, LO.index) === 1);
    if (pending) FSTS.PPF.setPair(words, FSTS.index, 0, 1);
    return unknown;
  }

  #capabilities(step: Step): string {
    const { cap, ecap } = this.mmio.capabilities;
    const missing = (names: unknown, values: Readonly<Record<string, unknown>>) =>
      ((names as readonly string[] | undefined) ?? []).filter(
        (name) => !(name in values) || values[name] === false || (values[name] === 0 && name !== "NFR"),
      );
    const absent = [...missing(step["CAP must include"], cap), ...missing(step["ECAP must include"], ecap)];
    if (absent.length > 0) return `capabilities without ${absent.join(", ")}`;
    return step.MGAW === undefined ? "" : same("MGAW", step.MGAW, cap.MGAW);
  }
}

/** A word alone means that the request faults. */
function expectation(step: Step): Expected {
  return expectedFields(step, "fault");
}

function expectsFault(expected: Expected): boolean {
  return ["fault", "fault_reason", "frcd", "dropped", "blocked"].some((key) => expected[key] !== undefined);
}

function same(what: string, expected: unknown, actual: number | bigint | string): string {
  if (expected === undefined) return "";
  const equal = typeof actual === "string" ? expected === actual : big(expected) === BigInt(actual);
  const got = typeof actual === "string" ? actual : hex(actual);
  return equal ? "" : `${what}: expected ${JSON.stringify(expected)}, got ${got}`;
}

function masked(what: string, expected: unknown, actual: number, mask: unknown): string {
  if (expected === undefined) return "";
  const bits = mask === undefined ? -1n : big(mask);
  return ((big(expected) ^ BigInt(actual)) & bits) === 0n
    ? ""
    : `${what}: expected ${JSON.stringify(expected)}, got ${hex(actual)}`;
}

export const holds = "scripts for a VT-d unit";

export function recognises(file: LoadedFile): boolean {
  return holdsScripts(file, VTD_CONFIG, (step) => ["irte_index", "frcd_expect"].includes(step?.op));
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  runScripts(files, ({ config }) => new VtdDevice(config ?? {}), report);
}
