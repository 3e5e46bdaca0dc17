/**
 * `vtd-script`: register, queue, table and interrupt scripts of other VT-d emulators. The unit's capabilities come from the
 * script's `config`.
 */
import {
  Access,
  type ChipPorts,
  type Encodable,
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
  CAP,
  ECAP,
  FRCD,
  frcdRegisters,
  interruptIndex,
  qemu11Q35,
  VtdHardware,
  type VtdPreset,
} from "@iommukit/iommu-vtd";
import type { LoadedFile } from "../load.js";
import type { Report } from "../report.js";
import { big, bytesOf, bytesToHex, number, runScripts, type ScriptedDevice, type Step } from "./device-script.js";

type Config = Readonly<Record<string, unknown>>;
type Expected = Readonly<Record<string, unknown>>;

function value(words: Int32Array): bigint {
  return (BigInt(words[1] >>> 0) << 32n) | BigInt(words[0] >>> 0);
}

/** A script says of its unit what its steps rely on; the rest is that of QEMU's. */
function presetOf(config: Config): VtdPreset {
  const has = (name: string) => config[name] !== undefined;
  const scalable = Number(config.scalable ?? 0);
  const firstStage = Number(config.first_stage ?? 0);
  if (!has("fro") && scalable === 0) return qemu11Q35;
  const fro = has("fro") ? number(config.fro) / 16 : 0x22;
  const iro = has("iro") ? number(config.iro) / 16 : 0xf;
  const cap: Encodable<(typeof CAP)["specs"]> = {
    ND: 6,
    SAGAW: Number(config.sagaw ?? 6),
    MGAW: Number(config.mgaw ?? 48) - 1,
    FRO: fro,
    SSLPS: 3,
    PSI: scalable,
    MAMV: scalable * 18,
    NFR: Number(config.nfr ?? 0),
    DWD: 1,
    DRD: 1,
    ESRTPS: scalable,
  };
  const ecap: Encodable<(typeof ECAP)["specs"]> = {
    C: 1,
    QI: 1,
    IR: 1,
    EIM: 1,
    IRO: iro,
    MHMV: 15,
    PT: scalable,
    SMTS: scalable,
    SRS: scalable,
    FSTS: scalable & firstStage,
    SSTS: scalable & ~firstStage,
  };
  return {
    ...qemu11Q35,
    name: "script",
    cap: value(CAP.encode(cap)),
    ecap: value(ECAP.encode(ecap)),
    faultCompression: false,
  };
}

class VtdDevice implements ScriptedDevice {
  readonly memory = new SlabMemory([{ base: 0, size: 0x2000_0000 }]);
  readonly mmio: VtdHardware;
  readonly #out = new Translation();
  /** Reasons of the faults that the last request met, recorded or not. */
  #faults: number[] = [];

  constructor(config: Config) {
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
    this.mmio = new VtdHardware(ports, { name: "vtd", preset: presetOf(config) });
    trace.on("fault:recorded", ({ fault }) => this.#faults.push(Number.parseInt(fault, 16)));
    trace.on("fault:dropped", ({ fault }) => this.#faults.push(Number.parseInt(fault, 16)));
  }

  step(step: Step): string | undefined {
    switch (step.op) {
      case "translate":
        return this.#translation(
          this.#translate(step, step.write === true ? Access.WRITE : Access.READ),
          step.expect as Expected,
        );
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
        return this.#record(number(step.index), step);
      case "cap_expect":
        return this.#capabilities(step);
      default:
        return undefined;
    }
  }

  #translate(step: Step, access: number): number {
    const iova = big(step.iova);
    this.#faults = [];
    return this.mmio.translate(number(step.rid), NO_PASID, hi32(iova), lo32(iova), access, this.#out);
  }

  #translation(status: number, expected: Expected): string {
    if (expected.pa !== undefined) {
      if (status !== TranslationStatus.OK)
        return `expected ${JSON.stringify(expected.pa)}, got fault ${this.#reasons()}`;
      return same("physical address", expected.pa, physical(this.#out.hi, this.#out.lo));
    }
    if (status === TranslationStatus.OK)
      return `expected fault ${JSON.stringify(expected.fault_reason)}, got ${hex(physical(this.#out.hi, this.#out.lo))}`;
    if (expected.fault_reason !== undefined && this.#faults.at(-1) !== number(expected.fault_reason)) {
      return `expected fault ${JSON.stringify(expected.fault_reason)}, got ${this.#reasons()}`;
    }
    return expected.frcd === undefined ? "" : this.#record(0, expected.frcd as Expected);
  }

  #reasons(): string {
    return this.#faults.map((code) => hex(code)).join(", ") || "none";
  }

  /** A fault recording register against fields whose names start as the specification's: "F", "SID", "T(type: 1=read)". */
  #record(index: number, expected: Expected): string {
    const { cap } = this.mmio.capabilities;
    const { words } = this.mmio.registers;
    const at = frcdRegisters(cap.FRO, cap.NFR + 1)[index].LO.index;
    for (const [label, wanted] of Object.entries(expected)) {
      const name = /^[A-Z]+/.exec(label)?.[0] ?? "";
      if (!["F", "SID", "FR", "T", "FI"].includes(name)) continue;
      const difference = same(
        `FRCD.${label}`,
        wanted,
        Number(FRCD.field(name === "T" ? "T1" : name).getBig(words, at)),
      );
      if (difference !== "") return difference;
    }
    return "";
  }

  #dma(step: Step): string {
    const write = step.op === "dma_write";
    const expected = step.expect as Expected;
    const failed = this.#translation(this.#translate(step, write ? Access.WRITE : Access.READ), { pa: expected.pa });
    if (failed !== "") return failed;
    const pa = number(expected.pa);
    if (write) return this.memory.writeBytes(pa, bytesOf(String(step.bytes))) ? "" : `no RAM at ${hex(pa)}`;
    const into = new Uint8Array(number(step.len));
    this.memory.readBytes(pa, into);
    return same("bytes", expected.bytes, bytesToHex(into));
  }

  #msi(step: Step): string {
    const expected = step.expect as Expected;
    const { interrupts } = this.mmio;
    this.#faults = [];
    const status = this.mmio.interrupt(number(step.rid), number(step.addr), number(step.data));
    if (expected.fault_reason !== undefined) {
      return this.#faults.at(-1) === number(expected.fault_reason)
        ? ""
        : `expected fault ${JSON.stringify(expected.fault_reason)}, got ${this.#reasons()}`;
    }
    if (status !== TranslationStatus.INTERRUPT) return `expected an interrupt, got fault ${this.#reasons()}`;
    const { address, data, destination } = interrupts.last;
    return (
      same("APIC id", expected.apic_id, destination) ||
      masked("address", expected.addr, address, expected.addr_mask) ||
      masked("data", expected.data, data, expected.data_mask)
    );
  }

  /** "FSTS.PFO=1,ICS.IWC=1": sets fields from the hardware's side. */
  #inject(what: string): string {
    for (const part of what.split(",")) {
      const [path, text] = part.split("=");
      const [name, field] = path.trim().split(".");
      const register = this.mmio.registers.registers.find((each) => each.name === name);
      if (!register) return `no register ${name}`;
      register.field(field).set(this.mmio.registers.words, register.index, Number(text));
    }
    return "";
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

function same(what: string, expected: unknown, actual: number | string): string {
  if (expected === undefined) return "";
  const equal = typeof actual === "string" ? expected === actual : number(expected) === actual;
  return equal
    ? ""
    : `${what}: expected ${JSON.stringify(expected)}, got ${typeof actual === "number" ? hex(actual) : actual}`;
}

function masked(what: string, expected: unknown, actual: number, mask: unknown): string {
  if (expected === undefined) return "";
  const bits = mask === undefined ? -1n : big(mask);
  return ((big(expected) ^ BigInt(actual)) & bits) === 0n
    ? ""
    : `${what}: expected ${JSON.stringify(expected)}, got ${hex(actual)}`;
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  runScripts(files, (config) => new VtdDevice(config), report);
}
