/**
 * `smmu-script`: register, queue and table scripts of other SMMUv3 implementations' test suites (device-script v1), each on a
 * freshly reset chip. A case passes when every step does.
 */
import {
  Access,
  SlabMemory,
  type TraceRecord,
  Tracer,
  Translation,
  TranslationStatus,
  VirtualTimeScheduler,
} from "@iommukit/core";
import {
  CD,
  CMD_SYNC,
  CR0,
  EVENT,
  IDR0,
  IDR1,
  IDR5,
  OPCODE,
  PRESETS,
  Smmuv3Hardware,
  type Smmuv3Preset,
  STE,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
  SYNC_CS,
} from "@iommukit/iommu-smmuv3";
import type { LoadedFile } from "../load.js";
import type { Report } from "../report.js";

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

interface Step {
  readonly op: string;
  readonly width?: number;
  readonly off?: string;
  readonly addr?: string;
  readonly value?: string;
  readonly mask?: string;
  readonly len?: number | string;
  readonly as?: string;
  readonly sid?: number;
  readonly iova?: string;
  readonly write?: boolean;
  readonly bytes?: string;
  readonly event_id?: string;
  readonly input_addr?: string;
  readonly fields?: Readonly<Record<string, string | number>>;
  readonly expect?: string | { readonly pa?: string; readonly page_size?: string; readonly event?: string };
}

interface Case {
  readonly name: string;
  readonly config?: Config;
  readonly portability?: string;
  readonly steps: readonly Step[];
}

/** Scripts that hold a peer's policy rather than the architecture, and what this chip does instead. */
const PEER_POLICY: Readonly<Record<string, string>> = {
  msi_config_registers: "the peer stores all 64 bits of *_IRQ_CFG0; here bits outside of ADDR[51:2] are RES0 (6.3.21)",
};

const RAM_SIZE = 0x1_0000_0000;
/** Room for the tables of `record_event`, away from what scripts use. */
const SCRATCH = 0xf000_0000;
const OAS = [32, 36, 40, 42, 44, 48, 52];

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  for (const file of files) {
    const { cases = [] } = file.document as { cases?: readonly Case[] };
    for (const script of cases) judge(script, report);
  }
}

function judge(script: Case, report: Report): void {
  const problem = new ScriptRun(script).play();
  const policy = script.portability === undefined ? undefined : PEER_POLICY[script.name];
  if (problem === null) report.pass();
  else if (policy !== undefined) report.notApplicable(`${script.name}: peer policy: ${policy}`);
  else report.fail(`${script.name}: ${problem}`);
}

class ScriptRun {
  readonly #memory = new SlabMemory([{ base: 0, size: RAM_SIZE }]);
  readonly #chip: Smmuv3Hardware;
  readonly #out = new Translation();
  readonly #saved = new Map<string, bigint>();
  /** Events that the chip recorded or would have recorded, in order. */
  readonly #faults: string[] = [];

  constructor(private readonly script: Case) {
    const scheduler = new VirtualTimeScheduler();
    const trace = new Tracer(() => scheduler.now);
    trace.subscribe((record: TraceRecord) => {
      if (record.name === "fault:recorded" || record.name === "fault:dropped") this.#faults.push(record.fault);
    });
    const ports = {
      memory: this.#memory,
      message: () => true,
      wire: () => {},
      requesters: { find: () => undefined },
      scheduler,
      trace,
    };
    this.#chip = new Smmuv3Hardware(ports, { name: "smmuv3", preset: presetFor(script) });
  }

  /** Null when every step is answered as the script expects. */
  play(): string | null {
    for (const [index, step] of this.script.steps.entries()) {
      const problem = this.#step(step);
      if (problem !== null) return `step ${index} (${step.op} ${step.off ?? step.addr ?? step.iova ?? ""}): ${problem}`;
    }
    return null;
  }

  #step(step: Step): string | null {
    switch (step.op) {
      case "mem_write":
        this.#memory.writeBytes(Number(step.addr), bytesOf(BigInt(step.value ?? 0), (step.width ?? 32) / 8));
        return null;
      case "mem_zero":
        this.#memory.fill(Number(step.addr), Number(step.len), 0);
        return null;
      case "mem_expect":
        return compare(this.#load(Number(step.addr), step.width ?? 32), BigInt(step.value ?? 0), step.mask);
      case "mem_expect_fields":
        return this.#fields(step);
      case "mmio_write":
        if (step.width === 64) this.#chip.write64(Number(step.off), BigInt(step.value ?? 0));
        else this.#chip.write32(Number(step.off), Number(step.value));
        return null;
      case "mmio_read":
        return compare(this.#read(step), BigInt(step.expect as string), step.mask);
      case "mmio_read_save":
        this.#saved.set(step.as ?? "", this.#read(step));
        return null;
      case "mmio_read_same":
        return compare(this.#read(step), this.#saved.get(step.as ?? "") ?? 0n, step.mask);
      case "mmio_read_halves_equal": {
        const halves = [0, 4].map((half) => BigInt(this.#chip.read32(Number(step.off) + half)));
        return compare(this.#chip.read64(Number(step.off)), halves[0] | (halves[1] << 32n), undefined);
      }
      case "mmio_read_raw":
      case "mmio_write_raw":
        // The register interface has 4-byte and 8-byte accesses and nothing else.
        return step.len === 4 || step.len === 8 ? `an access of ${step.len} bytes is possible` : null;
      case "translate":
        return this.#translate(step, step.write === true ? Access.WRITE : Access.READ);
      case "dma_write":
        return this.#dma(step, true);
      case "dma_read":
        return this.#dma(step, false);
      case "record_event":
        return this.#recordEvent(step);
      case "internal_expect":
      case "cap_expect":
      case "note":
        return null;
      default:
        return `unknown operation ${step.op}`;
    }
  }

  #read(step: Step): bigint {
    const off = Number(step.off);
    return step.width === 64 ? this.#chip.read64(off) : BigInt(this.#chip.read32(off));
  }

  #load(pa: number, width: number): bigint {
    const bytes = new Uint8Array(width / 8);
    this.#memory.readBytes(pa, bytes);
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  /** `{"sid[63:32]": …, "RnW(bit 99)": …}` of the record at `addr`. */
  #fields(step: Step): string | null {
    const record = this.#load(Number(step.addr), 256);
    for (const [name, expected] of Object.entries(step.fields ?? {})) {
      const [, msb, lsb = msb] = /\[(\d+):(\d+)\]|bit (\d+)/.exec(name)?.filter((part) => part !== undefined) ?? [];
      const value = BigInt.asUintN(Number(msb) - Number(lsb) + 1, record >> BigInt(lsb));
      const problem = compare(value, BigInt(expected), undefined);
      if (problem !== null) return `${name}: ${problem}`;
    }
    return null;
  }

  #access(step: Step, access: number): number {
    const iova = BigInt(step.iova ?? 0);
    this.#faults.length = 0;
    return this.#chip.translate(
      step.sid ?? 0,
      -1,
      Number(iova >> 32n) | 0,
      Number(iova & 0xffff_ffffn) | 0,
      access,
      this.#out,
    );
  }

  get #pa(): number {
    return (this.#out.hi >>> 0) * 2 ** 32 + (this.#out.lo >>> 0);
  }

  #translate(step: Step, access: number): string | null {
    const status = this.#access(step, access);
    const expect = step.expect as { pa?: string; page_size?: string; event?: string };
    if (expect.pa !== undefined) {
      if (status !== TranslationStatus.OK)
        return `expected 0x${Number(expect.pa).toString(16)}, got status ${status} ${this.#faults.join()}`;
      const size =
        expect.page_size === undefined
          ? null
          : compare(BigInt(2 ** this.#out.shift), BigInt(expect.page_size), undefined);
      return compare(BigInt(this.#pa), BigInt(expect.pa), undefined) ?? size;
    }
    if (status === TranslationStatus.OK) return `expected ${expect.event}, got 0x${this.#pa.toString(16)}`;
    if (expect.event === "ANY_ERROR") return null;
    const wanted = expect.event === "ABORT_NO_EVENT" ? "" : expect.event;
    return this.#faults.join() === wanted ? null : `expected ${expect.event}, got ${this.#faults.join() || "no event"}`;
  }

  #dma(step: Step, write: boolean): string | null {
    const problem = this.#translate(step, write ? Access.WRITE : Access.READ);
    if (problem !== null || this.#faults.length > 0) return problem;
    const bytes = Buffer.from(step.bytes ?? "", "hex");
    if (write) return this.#memory.writeBytes(this.#pa, bytes) ? null : "nothing answers at the output address";
    const got = Buffer.alloc(bytes.length);
    this.#memory.readBytes(this.#pa, got);
    return got.equals(bytes) ? null : `expected ${step.bytes}, got ${got.toString("hex")}`;
  }

  /** Makes the chip record F_TRANSLATION: a stream of its own whose walks are disabled, for one transaction. */
  #recordEvent(step: Step): string | null {
    if (Number(step.event_id) !== EVENT.F_TRANSLATION) return `cannot provoke event ${step.event_id}`;
    const sid = step.sid ?? 0;
    const put = (pa: number, words: Int32Array) => this.#memory.writeBytes(pa, new Uint8Array(words.buffer));
    put(SCRATCH + sid * 64, STE.encode({ V: true, Config: "s1", S1ContextPtr: SCRATCH + 0x10_0000 }));
    put(SCRATCH + 0x10_0000, CD.encode({ V: true, AA64: true, EPD0: true, EPD1: true, R: true, A: true }));
    const cr0 = this.#chip.read32(CR0.offset);
    this.#chip.write64(STRTAB_BASE.offset, BigInt(SCRATCH));
    this.#chip.write32(STRTAB_BASE_CFG.offset, 14);
    this.#chip.write32(CR0.offset, cr0 | CR0.SMMUEN.lowMask);
    this.#access({ op: "", sid, iova: step.input_addr }, step.write === true ? Access.WRITE : Access.READ);
    this.#chip.write32(CR0.offset, cr0);
    return null;
  }
}

/** The chip that the script was written for. Messages exist where the script uses them. */
function presetFor({ config = {}, steps }: Case): Smmuv3Preset {
  const base = PRESETS["qemu-11-virt"];
  const idr0 = IDR0.decode(Int32Array.of(base.idr0));
  const idr1 = IDR1.decode(Int32Array.of(base.idr1));
  const idr5 = IDR5.decode(Int32Array.of(base.idr5));
  const granule = (name: string, otherwise: boolean) => config.gran?.includes(name) ?? otherwise;
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
    idr3: config.sidsize === undefined ? base.idr3 : 0,
    idr5: IDR5.encode({
      OAS: config.oas_bits === undefined ? idr5.OAS : OAS.indexOf(config.oas_bits),
      GRAN4K: granule("4K", true),
      GRAN16K: granule("16K", true),
      GRAN64K: granule("64K", true),
    })[0],
    aidr: 3,
  };
}

/** Programs an interrupt's message, or is a CMD_SYNC that signals with one (CS = 1). */
function usesMessages(step: Step): boolean {
  if (step.op === "mmio_write") return step.off === "0x68" || step.off === "0xb0";
  const word = step.op === "mem_write" ? Number(BigInt(step.value ?? 0) & 0xffff_ffffn) : 0;
  return (word & 0xff) === OPCODE.SYNC && CMD_SYNC.CS.get(Int32Array.of(word, 0, 0, 0)) === SYNC_CS.irq;
}

function bytesOf(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

function compare(got: bigint, expected: bigint, mask: string | undefined): string | null {
  if (((got ^ expected) & (mask === undefined ? -1n : BigInt(mask))) === 0n) return null;
  return `expected 0x${expected.toString(16)}${mask === undefined ? "" : ` (mask ${mask})`}, got 0x${got.toString(16)}`;
}
