/**
 * Device scripts: what other emulators' tests do to an IOMMU, step by step, on a device that was just reset and RAM that is
 * zero. Steps on registers and RAM are the same for every IOMMU and are here; a unit's own runner adds the others.
 */
import { Access, hex, type Mmio, NO_PASID, type PhysicalMemory } from "@iommukit/core";
import { type LoadedFile, listIn } from "../load.js";
import { type Report, reasonOf } from "../report.js";
import { COMMON_CONFIG } from "./config.js";
import { big, bytesOf, bytesToHex, length, number } from "./values.js";

/** A step's fields: numbers are plain or hex strings. */
export interface Step {
  readonly op: string;
  readonly [field: string]: unknown;
}

export interface ScriptCase {
  readonly name: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly steps: readonly Step[];
  readonly note?: string;
  /** What was changed against the peer's test, and why. */
  readonly adaptation?: string;
  /** The peer's answer is its own choice; the architecture allows, or asks for, another. */
  readonly portability?: string;
}

/** The device that a case runs on. */
export interface ScriptedDevice {
  readonly memory: PhysicalMemory;
  readonly mmio: Mmio;
  /** Keys of the script's `config` that this device makes nothing of; a script that runs through did not need them. */
  readonly unknown?: readonly string[];
  /** A step that is the unit's own: the difference it finds, "" for none, undefined when it does not know the step. */
  step(step: Step): string | undefined;
}

/** Bytes of an access: `width` is in bits, and 64 where a step has none. */
function widthOf({ width = 64 }: Step): number {
  const bytes = number(width) / 8;
  if (![1, 2, 4, 8].includes(bytes)) throw new Error(`not a width in a device script: ${JSON.stringify(width)}`);
  return bytes;
}

function maskOf({ mask }: Step): bigint {
  return mask === undefined ? -1n : big(mask);
}

function differs(what: string, expected: bigint, actual: bigint, mask: bigint): string {
  return ((expected ^ actual) & mask) === 0n
    ? ""
    : `${what}: expected ${hex(expected & mask)}, got ${hex(actual & mask)}${mask === -1n ? "" : ` (mask ${hex(mask)})`}`;
}

/** Little-endian value of RAM. */
function load(memory: PhysicalMemory, pa: number, bytes: number): bigint {
  const into = new Uint8Array(bytes);
  if (!memory.readBytes(pa, into)) return -1n;
  return into.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function store(memory: PhysicalMemory, pa: number, bytes: number, value: bigint): void {
  memory.writeBytes(
    pa,
    Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn)),
  );
}

class Script {
  readonly #saved = new Map<string, bigint>();

  constructor(private readonly device: ScriptedDevice) {}

  /** The difference that the step finds; "" when all is as expected. @throws Error for a step that cannot be read */
  run(step: Step): string {
    const { memory } = this.device;
    const bytes = widthOf(step);
    switch (step.op) {
      case "mem_write":
        store(memory, number(step.addr), bytes, big(step.value));
        return "";
      case "mem_zero":
        memory.fill(number(step.addr), length(step.len), 0);
        return "";
      case "mem_expect":
        return differs(
          `RAM at ${String(step.addr)}`,
          big(step.value),
          load(memory, number(step.addr), bytes),
          maskOf(step),
        );
      case "mem_expect_fields":
        return this.#fields(number(step.addr), step.fields as Readonly<Record<string, unknown>>);
      case "note":
      case "internal_expect":
        return "";
      default:
        return this.#register(step, bytes);
    }
  }

  /** Fields named as `event_id[7:0]`, `RnW[99]`, `RnW(bit 99)` or `RnW bit 99`. */
  #fields(addr: number, fields: Readonly<Record<string, unknown>>): string {
    for (const [name, value] of Object.entries(fields)) {
      const range = /\[(\d+):(\d+)\]|(?:\[|\bbit )(\d+)/.exec(name);
      if (!range) throw new Error(`device script: no bits in field ${name}`);
      const msb = Number(range[1] ?? range[3]);
      const lsb = Number(range[2] ?? range[3]);
      const actual =
        (load(this.device.memory, addr, (msb >> 3) + 1) >> BigInt(lsb)) & ((1n << BigInt(msb - lsb + 1)) - 1n);
      const difference = differs(name, big(value), actual, -1n);
      if (difference !== "") return difference;
    }
    return "";
  }

  #read(offset: number, bytes: number): bigint {
    const { mmio } = this.device;
    return bytes === 8 ? mmio.read64(offset) : BigInt(mmio.read32(offset));
  }

  #register(step: Step, bytes: number): string {
    const offset = step.off === undefined ? 0 : number(step.off);
    const where = `register ${hex(offset)}`;
    switch (step.op) {
      case "mmio_write":
        if (bytes === 8) this.device.mmio.write64(offset, big(step.value));
        else this.device.mmio.write32(offset, number(step.value));
        return "";
      case "mmio_read":
        return differs(where, big(step.expect), this.#read(offset, bytes), maskOf(step));
      case "mmio_read_save":
        this.#saved.set(String(step.as), this.#read(offset, bytes));
        return "";
      case "mmio_read_same":
        return differs(where, this.#saved.get(String(step.as)) ?? -1n, this.#read(offset, bytes), maskOf(step));
      case "mmio_read_halves_equal":
        return differs(where, this.#read(offset, 8), this.#read(offset, 4) | (this.#read(offset + 4, 4) << 32n), -1n);
      case "mmio_read_raw":
      case "mmio_write_raw":
        // A register port has accesses of 4 and 8 bytes; others do not exist.
        return number(step.len) === 4 || number(step.len) === 8
          ? `an access of ${String(step.len)} bytes is not refused`
          : "";
      default:
        return this.#own(step);
    }
  }

  #own(step: Step): string {
    const difference = this.device.step(step);
    if (difference === undefined) throw new Error(`device script: unknown step ${step.op}`);
    return difference;
  }
}

const PAGE = 4096;

/**
 * A `dma_read` or `dma_write`, page by page.
 * @param translate physical address of an IOVA; a string ends the access and is the difference, "" for none
 */
export function dma(
  step: Step,
  memory: PhysicalMemory,
  translate: (iova: bigint, first: boolean) => number | string,
): string {
  const write = step.op === "dma_write";
  const data = write ? bytesOf(step.bytes) : new Uint8Array(length(step.len));
  for (let done = 0; done < data.length; ) {
    const iova = big(step.iova) + BigInt(done);
    const pa = translate(iova, done === 0);
    if (typeof pa === "string") return pa;
    const part = data.subarray(done, done + PAGE - Number(iova & 0xfffn));
    if (!(write ? memory.writeBytes(pa, part) : memory.readBytes(pa, part))) return `no RAM at ${hex(pa)}`;
    done += part.length;
  }
  const bytes = (step.expect as { readonly bytes?: unknown } | undefined)?.bytes ?? step.bytes;
  const got = bytesToHex(data);
  return write || bytes === undefined || bytesToHex(bytesOf(bytes)) === got
    ? ""
    : `bytes: expected ${JSON.stringify(bytes)}, got ${got}`;
}

/** Access of a device's request: a read, unless the step says `write` or `exec`; `priv` is with privilege. */
export function accessOf({ write, exec, priv }: Step): number {
  const kind = write === true || write === 1 ? Access.WRITE : exec === true ? Access.EXEC : Access.READ;
  return priv === true ? kind | Access.PRIV : kind;
}

/** PASID or SubstreamID of a device's request. */
export function pasidOf({ pasid, ssid = pasid }: Step): number {
  return ssid === undefined ? NO_PASID : number(ssid);
}

/** What a step expects, as fields: nothing where it says nothing, an address or a word where it has only that. */
export function expectation({ expect }: Step, word: string): Readonly<Record<string, unknown>> {
  if (typeof expect === "number" || (typeof expect === "string" && expect.startsWith("0x"))) return { pa: expect };
  return typeof expect === "string" ? { [word]: expect } : ((expect ?? {}) as Readonly<Record<string, unknown>>);
}

/** The first difference of a case, with the number of its step; "" when it runs through. Steps marked `portability` may differ. */
export function runCase(device: ScriptedDevice, { steps }: ScriptCase): string {
  const script = new Script(device);
  for (const [index, step] of steps.entries()) {
    const difference = script.run(step);
    if (difference !== "" && step.portability === undefined) return `step ${index + 1} (${step.op}): ${difference}`;
  }
  return "";
}

/** Steps that only device scripts have. */
const SCRIPTED = /^(mem|mmio|dma)_|^translate$/;

/**
 * Whether there are scripts in the file, and they speak of this unit or of none.
 * @param own keys of `config` that only this unit has; @param isOwn a step that only this unit knows
 */
export function holdsScripts(file: LoadedFile, own: readonly string[], isOwn: (step: Step) => boolean): boolean {
  const cases = listIn<ScriptCase>(file, "cases");
  const keys = cases.flatMap((each) => Object.keys(each?.config ?? {})).filter((key) => !COMMON_CONFIG.includes(key));
  return (
    cases.some((each) => each?.steps?.some?.((step) => SCRIPTED.test(step?.op))) &&
    (keys.length === 0 || keys.some((key) => own.includes(key)) || cases.some((each) => each?.steps?.some?.(isOwn)))
  );
}

/**
 * Runs every case on a device of its own. A case that differs and that is marked as the peer's own choice is reported as
 * not applicable, with the reason that the file gives. What nobody here knows of a case is a failure of that case.
 */
export function runScripts(
  files: readonly LoadedFile[],
  make: (script: ScriptCase) => ScriptedDevice,
  report: Report,
): void {
  for (const file of files) {
    for (const each of listIn<ScriptCase>(file, "cases")) {
      const difference = answerOf(each as ScriptCase, make);
      const policy = each?.portability;
      if (difference === "") report.pass();
      else if (policy !== undefined) report.notApplicable(`peer policy, ${each?.name}: ${policy}`);
      else report.fail(`${file.name} ${each?.name}: ${difference}`);
    }
  }
}

function answerOf(each: ScriptCase, make: (script: ScriptCase) => ScriptedDevice): string {
  try {
    const device = make(each);
    const difference = runCase(device, each);
    const unknown = device.unknown ?? [];
    return difference === "" || unknown.length === 0
      ? difference
      : `${difference}; the unit's ${unknown.join(", ")} is not known`;
  } catch (error) {
    return reasonOf(error);
  }
}
