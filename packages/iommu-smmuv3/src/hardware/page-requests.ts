/** PCIe page requests into the PRI queue, and the chip's own answers when they cannot go there. IHI 0070 chapter 8. */
import { type PageRequest, PrgResponseCode, type RegisterFile } from "@iommukit/core";
import { PRIQ_ENTRY } from "../spec/page-requests.js";
import * as r from "../spec/registers.js";
import type { ChipContext } from "./chip-context.js";
import type { ConfigLookup } from "./config-lookup.js";
import type { EventQueue } from "./event-queue.js";
import type { Interrupts } from "./interrupts.js";
import { OutputQueue } from "./output-queue.js";
import { Transaction } from "./transaction.js";

export class PageRequests {
  readonly #queue: OutputQueue;
  readonly #record = new Int32Array(4);
  readonly #transaction = new Transaction();

  constructor(
    private readonly chip: ChipContext,
    private readonly registers: RegisterFile,
    private readonly interrupts: Interrupts,
    private readonly config: ConfigLookup,
    private readonly events: EventQueue,
  ) {
    this.#queue = new OutputQueue(chip, registers, r.PRIQ_BASE, r.PRIQ_PROD, r.PRIQ_CONS, 4, chip.features.priqs);
  }

  request(request: PageRequest): void {
    const { chip, interrupts, registers } = this;
    if (chip.ports.trace.enabled) this.#trace(request);
    const needed = r.CR0.PRIQEN.lowMask | r.CR0.SMMUEN.lowMask;
    if ((registers.words[r.CR0.index] & needed) !== needed) {
      this.#refuse(request, PrgResponseCode.RESPONSE_FAILURE, false, "PRI queue not enabled");
    } else if (interrupts.active(r.GERROR.PRIQ_ABT_ERR.lowMask)) {
      this.#refuse(request, PrgResponseCode.RESPONSE_FAILURE, false, "PRIQ_ABT_ERR is active");
    } else if (this.#queue.overflowed || this.#queue.full) {
      this.#overflow(request);
    } else {
      this.#enqueue(request);
    }
  }

  #enqueue(request: PageRequest): void {
    const { interrupts } = this;
    const wasEmpty = this.#queue.empty;
    if (!this.#queue.write(this.#fill(request))) {
      interrupts.activate(r.GERROR.PRIQ_ABT_ERR.lowMask);
      this.#refuse(request, PrgResponseCode.RESPONSE_FAILURE, false, "queue write aborted");
      return;
    }
    if (this.#onLast ? request.last : wasEmpty) interrupts.raise("priq");
  }

  /** PRIQ_IRQ_CFG2.LO: the interrupt tells of a group's last request, also of one that found the queue full (6.3.36). */
  get #onLast(): boolean {
    return (this.registers.words[r.PRIQ_IRQ_CFG2.index] & r.PRIQ_IRQ_CFG2.LO.lowMask) !== 0;
  }

  #fill(request: PageRequest): Int32Array {
    const w = this.#record.fill(0);
    const bit = (value: boolean) => (value ? 1 : 0);
    PRIQ_ENTRY.StreamID.setPair(w, 0, 0, request.rid);
    PRIQ_ENTRY.R.setPair(w, 0, 0, bit(request.read));
    PRIQ_ENTRY.W.setPair(w, 0, 0, bit(request.write));
    PRIQ_ENTRY.Last.setPair(w, 0, 0, bit(request.last));
    PRIQ_ENTRY.PRGIndex.setPair(w, 0, 0, request.prgi);
    PRIQ_ENTRY.PageAddress.setPair(w, 0, request.hi, request.lo);
    if (request.pasid < 0 || this.chip.features.ssidSize === 0) return w;
    PRIQ_ENTRY.SSV.setPair(w, 0, 0, 1);
    PRIQ_ENTRY.SubstreamID.setPair(w, 0, 0, request.pasid);
    PRIQ_ENTRY.X.setPair(w, 0, 0, bit(request.execute));
    PRIQ_ENTRY.Priv.setPair(w, 0, 0, bit(request.privileged));
    return w;
  }

  /** 8.1: the request is lost; a group's last one is answered, with a PASID as PPS and PPAR say. */
  #overflow(request: PageRequest): void {
    this.#queue.overflow();
    const { features } = this.chip;
    const tagged = request.pasid >= 0 && features.ssidSize > 0;
    let code: number = PrgResponseCode.SUCCESS;
    let withPasid = tagged && features.pps;
    if (tagged && !features.pps && answered(request)) {
      const event = this.config.findStream(request.rid, request.pasid);
      if (event === 0) withPasid = this.config.stream.ppar;
      else code = this.#noStream(event, request);
    }
    this.#refuse(request, code, withPasid, "queue full");
    if (this.#onLast && request.last) this.interrupts.raise("priq");
  }

  /** PPAR cannot be checked: the response is a failure; recorded only where CR2.REC_CFG_ATS asks for it. */
  #noStream(event: number, request: PageRequest): number {
    this.#transaction.set(request.rid, request.pasid, request.hi, request.lo, 0);
    const recorded = (this.registers.words[r.CR2.index] & r.CR2.REC_CFG_ATS.lowMask) !== 0;
    if (recorded) this.events.record(event, this.#transaction, false);
    return PrgResponseCode.RESPONSE_FAILURE;
  }

  /** Drops a request. A failure answers every one, a full queue those that close a group (8.1, 8.2); a Stop Marker neither. */
  #refuse(request: PageRequest, code: number, withPasid: boolean, reason: string): void {
    const { name, ports } = this.chip;
    const { rid, prgi } = request;
    if (ports.trace.enabled) {
      const address = (BigInt(request.hi >>> 0) << 32n) | BigInt(request.lo >>> 0);
      ports.trace.emit("pri:dropped", { unit: name, rid, pasid: request.pasid, address, prgi, reason });
    }
    const answers = code === PrgResponseCode.RESPONSE_FAILURE ? !isStopMarker(request) : answered(request);
    if (!answers) return;
    this.respond(rid, withPasid ? request.pasid : -1, prgi, code);
  }

  /** A PRG Response message to the endpoint: from CMD_PRI_RESP, or of the chip's own. */
  respond(rid: number, pasid: number, prgi: number, code: number): void {
    const { name, ports } = this.chip;
    if (ports.trace.enabled)
      ports.trace.emit("pri:answered", { unit: name, rid, pasid, prgi, code: RESPONSE_NAMES[code] ?? `${code}` });
    ports.requesters.find(rid)?.pageResponse({ rid, pasid, prgi, code });
  }

  #trace(request: PageRequest): void {
    const { rid, pasid, prgi, last } = request;
    const address = (BigInt(request.hi >>> 0) << 32n) | BigInt(request.lo >>> 0);
    const access =
      (request.read ? 1 : 0) | (request.write ? 2 : 0) | (request.execute ? 4 : 0) | (request.privileged ? 8 : 0);
    this.chip.ports.trace.emit("pri:requested", { unit: this.chip.name, rid, pasid, address, prgi, last, access });
  }
}

const RESPONSE_NAMES: Readonly<Record<number, string>> = { 0: "success", 1: "invalid", 15: "failure" };

/** A group's last request. */
function answered(request: PageRequest): boolean {
  return request.last && !isStopMarker(request);
}

/** LRW = 100b with a PASID. Without one it is a request like any other. */
function isStopMarker({ last, read, write, pasid }: PageRequest): boolean {
  return last && !read && !write && pasid >= 0;
}
