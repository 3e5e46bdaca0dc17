/** The waists between devices, chips and the board. Each is written for the one who uses it, and is all that it knows. */
import type { HardwareUnit, Scheduler } from "../kernel/scheduler.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import { token } from "../platform/token.js";
import type { Tracer } from "../trace/tracer.js";
import type {
  AtsCompletion,
  InvalidateCompletion,
  InvalidateRequest,
  PageRequest,
  PrgResponse,
  Translation,
} from "./transaction.js";

/**
 * What a device knows of its IOMMU. Synchronous: `translate` and `translationRequest` fill `out` and return a status
 * (TranslationStatus, AtsStatus). No promise, no allocation.
 */
export interface TranslationPort {
  /** An untranslated (or, with Access.TRANSLATED, translated) request. `hi`/`lo` is the byte address. */
  translate(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number;
  /** A translation request. `access` is what the device wants; without WRITE the request carries NW = 1. */
  translationRequest(rid: number, pasid: number, hi: number, lo: number, access: number, out: AtsCompletion): number;
  pageRequest(request: PageRequest): void;
  invalidateCompletion(completion: InvalidateCompletion): void;
  /**
   * Takes the message for which `translate` answered INTERRUPT (a 4-byte write without PASID to the platform's interrupt
   * range): remaps and delivers it. Absent where interrupts are ordinary writes.
   * @returns INTERRUPT when it was delivered, FAULT when it was blocked
   */
  interrupt?(rid: number, address: number, data: number): number;
}

export const TranslationPort = token<TranslationPort>("TranslationPort");

/** What an IOMMU knows of a function behind it. Messages; none of them may call back into the IOMMU synchronously except `invalidateCompletion`. */
export interface RequesterPort {
  invalidate(request: InvalidateRequest): void;
  pageResponse(response: PrgResponse): void;
  /** A stalled transaction goes on: retried through the tables, or terminated with or without an abort. */
  stallResolved(stag: number, action: "retry" | "terminate" | "abort"): void;
}

/** Finds the function that a message to a requester id reaches; undefined when none is there (or it was unplugged). */
export interface RequesterDirectory {
  find(rid: number): RequesterPort | undefined;
}

/** What a chip knows of the board: RAM, a doorbell for messages, wires, time, and the functions behind it. */
export interface ChipPorts {
  readonly memory: PhysicalMemory;
  /** A 4-byte write that is a message-signalled interrupt. False when nothing is at the address. */
  message(address: number, data: number): boolean;
  /** Drives a named interrupt wire ("eventq", "gerror"). Edge-triggered wires pulse: true, then false. */
  wire(line: string, level: boolean): void;
  readonly requesters: RequesterDirectory;
  readonly scheduler: Scheduler;
  readonly trace: Tracer;
}

export const ChipPorts = token<ChipPorts>("ChipPorts");

/** What a driver knows of its chip; everything else is bytes in RAM. QEMU over qtest implements this as well. */
export interface Mmio {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
  read64(offset: number): bigint;
  write64(offset: number, value: bigint): void;
}

export const Mmio = token<Mmio>("Mmio");

/** One entry of a cache, in words; for reports. */
export interface CachedEntry {
  /** "TLB", "STE", "context", "ATC". */
  readonly cache: string;
  /** What it is found by. */
  readonly tag: string;
  /** What it answers. */
  readonly says: string;
}

/** A chip: registers for its driver, a translation port for devices, and steps that a scheduler may own. */
export interface IommuChip extends Mmio, TranslationPort {
  readonly name: string;
  /** Power-on state, tables and caches gone. */
  reset(): void;
  readonly units: readonly HardwareUnit[];
  /** Commands or descriptors consumed since power-on, by the specification's names. Counted whether or not anybody traces. */
  commandsConsumed(): Readonly<Record<string, number>>;
  /** What its caches hold now; for reports. */
  cacheContents?(): readonly CachedEntry[];
}
