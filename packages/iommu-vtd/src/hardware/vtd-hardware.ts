/**
 * A VT-d remapping unit: registers for its driver, translation for the functions of one segment. This file wires the parts;
 * each part has a file of its own, and request-path.ts takes a request through them.
 */
import {
  type AtsCompletion,
  type CachedEntry,
  type ChipPorts,
  type HardwareUnit,
  type InvalidateCompletion,
  type IommuChip,
  type PageRequest,
  RegisterFile,
  type Translation,
  TranslationStatus,
} from "@iommukit/core";
import type { VtdPreset } from "../presets.js";
import { AFLOG, CAP, ECAP, FE, GSTS, ICS, IE, IQA, IQT, IRTA, PE, PQA, PQH, PQT, PRS, VER } from "../spec/registers.js";
import { cacheContents } from "./cache-contents.js";
import { Capabilities } from "./capabilities.js";
import { ConfigLookup } from "./config-lookup.js";
import { EventInterrupt } from "./event-interrupt.js";
import { FaultRecording } from "./fault-recording.js";
import { GlobalCommand } from "./global-command.js";
import { InterruptRemapping } from "./interrupt-remapping.js";
import { Invalidate } from "./invalidate.js";
import { InvalidationQueue } from "./invalidation-queue.js";
import { PageRequests } from "./page-requests.js";
import { ProtectedMemory } from "./protected-memory.js";
import { QuickPath } from "./quick-path.js";
import { QuickWalk } from "./quick-walk.js";
import { RegisterInvalidation } from "./register-invalidation.js";
import { RequestPath } from "./request-path.js";
import { TableWalk } from "./table-walk.js";
import { Iotlb } from "./translation-cache.js";
import { TranslationLookup } from "./translation-lookup.js";

const { OK } = TranslationStatus;

/** For a unit without its driver. */
export interface VtdHardwareOptions {
  /** Unique on the platform: "vtd", "vtd.1". */
  readonly name: string;
  readonly preset: VtdPreset;
}

/** Under drivers that are not ours: registers at byte offsets as in VT-d chapter 11. */
export class VtdHardware implements IommuChip {
  readonly name: string;
  readonly capabilities: Capabilities;
  readonly registers: RegisterFile;
  readonly config: ConfigLookup;
  readonly walk: TableWalk;
  readonly iotlb: Iotlb;
  readonly interrupts: InterruptRemapping;
  readonly units: readonly HardwareUnit[];
  readonly #queue: InvalidationQueue;
  readonly #faults: FaultRecording;
  readonly #global: GlobalCommand;
  readonly #pages: PageRequests;
  readonly #protected: ProtectedMemory;
  readonly #quick: QuickPath;
  readonly #path: RequestPath;

  constructor(ports: ChipPorts, { name, preset }: VtdHardwareOptions) {
    this.name = name;
    const caps = Capabilities.of(preset);
    this.capabilities = caps;
    const { frcd, iotlbs, all, size } = caps.registers;
    const file = new RegisterFile(name, size, all);
    this.registers = file;
    this.config = new ConfigLookup(name, caps, ports.memory, ports.trace);
    this.walk = new TableWalk(name, caps, ports.memory, ports.trace);
    this.iotlb = new Iotlb(preset.caches.iotlb);
    this.interrupts = new InterruptRemapping(name, caps, () => this.#faults, ports);
    this.interrupts.compatibilityPasses = () => GSTS.CFIS.get(file.words, GSTS.index) === 1;
    const invalidate = new Invalidate(
      name,
      caps,
      this.config,
      this.iotlb,
      this.walk.firstStageCache,
      this.walk.secondStage.cache,
      this.interrupts.cache,
      ports.trace,
    );
    const completion = new EventInterrupt(name, "invalidation", file, IE, ports);
    file.onWrite(ICS, () => {
      if (ICS.IWC.get(file.words, ICS.index) === 0) completion.serviced();
    });
    this.#queue = new InvalidationQueue({
      unit: name,
      caps,
      file,
      config: this.config,
      invalidate,
      event: completion,
      ports,
      respond: (response) => this.#pages.respond(response),
    });
    this.#faults = new FaultRecording(
      name,
      caps,
      file,
      frcd,
      new EventInterrupt(name, "fault", file, FE, ports),
      ports,
      () => this.#queue.kick(),
    );
    this.#queue.faults = this.#faults;
    const pageEvent = new EventInterrupt(name, "page-request", file, PE, ports);
    this.#pages = new PageRequests({
      unit: name,
      file,
      config: this.config,
      faults: this.#faults,
      invalidate,
      event: pageEvent,
      ports,
    });
    const modeChanged = () => this.#path.modeChanged();
    this.#global = new GlobalCommand({
      caps,
      file,
      config: this.config,
      invalidate,
      queue: this.#queue,
      interrupts: this.interrupts,
      faults: this.#faults,
      modeChanged,
    });
    this.#protected = new ProtectedMemory(caps, file, modeChanged);
    this.#quick = new QuickPath(this.iotlb, new QuickWalk(this.config, this.iotlb, this.walk));
    this.#path = new RequestPath({
      unit: name,
      caps,
      config: this.config,
      quick: this.#quick,
      lookup: new TranslationLookup({
        unit: name,
        caps,
        config: this.config,
        walk: this.walk,
        iotlb: this.iotlb,
        trace: ports.trace,
      }),
      faults: this.#faults,
      global: this.#global,
      interrupts: this.interrupts,
      protectedMemory: this.#protected,
      trace: ports.trace,
    });
    new RegisterInvalidation(caps, file, iotlbs, this.config, this.#queue, invalidate);
    this.units = [this.#queue];
    this.#hideMissing();
    this.reset();
  }

  /** Registers of features that the unit does not have read as zero and ignore writes. */
  #hideMissing(): void {
    const { ecap } = this.capabilities;
    const file = this.registers;
    const hide = (present: boolean, registers: readonly Parameters<RegisterFile["guard"]>[0][]) => {
      if (!present) for (const register of registers) file.guard(register, () => 0);
    };
    hide(ecap.QI, [IQT, IQA, ICS, ...Object.values(IE)]);
    hide(ecap.PRS, [PQH, PQT, PQA, PRS, ...Object.values(PE)]);
    hide(ecap.IR, [IRTA]);
    hide(false, [AFLOG]);
    // 11.4.10
    if (ecap.IR && !ecap.EIM) file.guard(IRTA, (word) => (word === 0 ? ~IRTA.EIME.lowMask : -1));
  }

  reset(): void {
    const { preset, capWords, ecapWords, ecap } = this.capabilities;
    const file = this.registers;
    file.reset();
    const [MAX, MIN] = preset.version;
    file.set(VER, VER.encode({ MAX, MIN })[0]);
    file.set(CAP, capWords[0], capWords[1]);
    file.set(ECAP, ecapWords[0], ecapWords[1]);
    if (!ecap.QI) file.set(IE.CTL, 0);
    if (!ecap.PRS) file.set(PE.CTL, 0);
    this.config.reset();
    this.iotlb.invalidateAll();
    this.walk.firstStageCache.invalidateAll();
    this.walk.secondStage.cache.invalidateAll();
    this.interrupts.reset();
    this.#queue.reset();
    this.#faults.reset();
    this.#global.reset();
    this.#protected.reset();
    this.#path.modeChanged();
  }

  read32(offset: number): number {
    return this.registers.read32(offset);
  }

  write32(offset: number, value: number): void {
    this.registers.write32(offset, value);
  }

  read64(offset: number): bigint {
    return this.registers.read64(offset);
  }

  write64(offset: number, value: bigint): void {
    this.registers.write64(offset, value);
  }

  translate(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const done = this.#quick.translate(rid, pasid, hi, lo, access, out);
    return done > this.#path.ended ? OK : this.#path.rest(done, rid, pasid, hi, lo, access, out);
  }

  translationRequest(rid: number, pasid: number, hi: number, lo: number, access: number, out: AtsCompletion): number {
    return this.#path.translationRequest(rid, pasid, hi, lo, access, out);
  }

  interrupt(rid: number, address: number, data: number): number {
    return this.interrupts.deliver(rid, address, data);
  }

  /** Without page requests, or while translation is off, the message is an Unsupported Request: it gets no answer. */
  pageRequest(request: PageRequest): void {
    if (this.#global.translating && this.capabilities.ecap.PRS) this.#pages.accept(request);
  }

  /** While translation is off, the message is an Unsupported Request (4.2.1): what it answers stays under way. */
  invalidateCompletion(completion: InvalidateCompletion): void {
    if (this.#global.translating) this.#queue.deviceTlb.complete(completion);
  }

  commandsConsumed(): Readonly<Record<string, number>> {
    return this.#queue.consumed();
  }

  cacheContents(): readonly CachedEntry[] {
    const { config, iotlb, walk } = this;
    return cacheContents({ config, iotlb, firstStage: walk.firstStageCache, secondStage: walk.secondStage.cache });
  }
}
