/**
 * Page requests (VT-d 7.4, 7.5, 6.5.3.1): checks against the tables, implicit invalidation, the page request queue in
 * memory, overflow with automatic responses, and the page request event. Received requests are in memory before the call
 * returns, so that a drain (PD, 7.7) never finds one under way.
 */
import {
  Access,
  type ChipPorts,
  join64,
  NO_PASID,
  type PageRequest,
  type PrgResponse,
  PrgResponseCode,
  physical,
  type RegisterFile,
} from "@iommukit/core";
import { ScalableFault } from "../spec/faults.js";
import { PAGE_REQUEST_TYPE, PAGE_REQUEST_DESCRIPTOR as PRD } from "../spec/page-requests.js";
import { Pgtt } from "../spec/pasid-table.js";
import { PQA, PQH, PQT, PRS } from "../spec/registers.js";
import { TranslationEntry } from "./config-entries.js";
import { type ConfigLookup, Ttm } from "./config-lookup.js";
import type { EventInterrupt } from "./event-interrupt.js";
import type { FaultRecording } from "./fault-recording.js";
import type { Invalidate } from "./invalidate.js";
import { AddressType, Request } from "./request.js";

export interface PageRequestParts {
  readonly unit: string;
  readonly file: RegisterFile;
  readonly config: ConfigLookup;
  readonly faults: FaultRecording;
  readonly invalidate: Invalidate;
  readonly event: EventInterrupt;
  readonly ports: ChipPorts;
}

const CODE_NAMES: Readonly<Record<number, string>> = { 0: "success", 1: "invalid", 15: "failure" };

export class PageRequests {
  readonly #request = new Request();
  readonly #descriptor = new Int32Array(PRD.words);
  /** The PASID table entry of the request under way. */
  #entry = new TranslationEntry();

  constructor(private readonly parts: PageRequestParts) {
    parts.file.onWrite(PRS, () => {
      if ((parts.file.get(PRS) & (PRS.PPR.lowMask | PRS.PRO.lowMask)) === 0) parts.event.serviced();
    });
  }

  /** One page request message. */
  accept(message: PageRequest): void {
    const request = this.#request;
    const access =
      (message.read ? Access.READ : 0) |
      (message.write ? Access.WRITE : 0) |
      (message.execute ? Access.EXEC : 0) |
      (message.privileged ? Access.PRIV : 0);
    request.start(message.rid, message.pasid, message.hi, message.lo, access, AddressType.PAGE_REQUEST);
    if (this.parts.ports.trace.enabled) {
      this.parts.ports.trace.emit("pri:requested", {
        ...this.#who(message),
        prgi: message.prgi,
        last: message.last,
        access,
      });
    }
    const fault = this.#admit(request);
    if (fault !== 0) {
      this.parts.faults.report(fault, request);
      this.#refuse(message, PrgResponseCode.INVALID_REQUEST, `fault 0x${fault.toString(16)}`);
    } else if (PRS.PRO.get(this.parts.file.words, PRS.index) === 1) {
      this.#refuse(message, PrgResponseCode.SUCCESS, "overflow");
    } else {
      this.#enqueue(message);
    }
  }

  #who({ rid, pasid, hi, lo }: PageRequest) {
    return { unit: this.parts.unit, rid, pasid, address: join64(hi, lo) };
  }

  /** Walks to the PASID table entry (table 30, columns of page requests). @returns fault reason */
  #admit(request: Request): number {
    const { config } = this.parts;
    if (config.ttm === Ttm.LEGACY) return ScalableFault.LEGACY_PAGE_REQUEST.code;
    const context = config.context(request.rid);
    request.faultsDisabled = context.faultsDisabled;
    if (context.fault !== 0) return context.fault;
    if (!context.pre) return ScalableFault.PRE_CLEAR.code;
    const entry = config.translation(context, request);
    request.faultsDisabled ||= entry.faultsDisabled;
    this.#entry = entry;
    return entry.fault;
  }

  /** Implicit invalidation of what is cached for the page (table 27). */
  #invalidate({ did, pgtt }: TranslationEntry, request: Request): void {
    const { invalidate } = this.parts;
    if (pgtt === Pgtt.FIRST_STAGE)
      invalidate.pasidIotlbPages(did, request.effectivePasid, request.hi, request.lo, 0, false);
    else if (pgtt === Pgtt.NESTED) invalidate.iotlbDomain(did);
    else invalidate.iotlbPages(did, request.hi, request.lo, 0, false);
  }

  #enqueue(message: PageRequest): void {
    const { file, ports, event } = this.parts;
    const { words } = file;
    const size = 4096 << PQA.PQS.get(words, PQA.index);
    const tail = PQT.PQT.get(words, PQT.index) % size;
    const next = (tail + PRD.bytes) % size;
    const quiet = (file.get(PRS) & (PRS.PPR.lowMask | PRS.PRO.lowMask)) === 0;
    if (next === PQH.PQH.get(words, PQH.index)) {
      PRS.PRO.setPair(words, PRS.index, 0, 1);
      if (quiet) event.raise();
      this.#refuse(message, PrgResponseCode.SUCCESS, "queue full");
      return;
    }
    this.#invalidate(this.#entry, this.#request);
    this.#write(message, physical(PQA.PQA.hi(words, PQA.index), PQA.PQA.lo(words, PQA.index)) + tail);
    PQT.PQT.setPair(words, PQT.index, 0, next);
    PRS.PPR.setPair(words, PRS.index, 0, 1);
    // H20: an event only if neither status bit was set before.
    if (quiet) event.raise();
    if (ports.trace.enabled)
      ports.trace.emit("table:written", {
        by: this.parts.unit,
        table: "page-request-queue",
        address: tail,
        value: join64(this.#descriptor[1], this.#descriptor[0]),
      });
  }

  #write(message: PageRequest, pa: number): void {
    const d = this.#descriptor;
    d.fill(0);
    PRD.TYPE.setPair(d, 0, 0, PAGE_REQUEST_TYPE);
    PRD.RID.setPair(d, 0, 0, message.rid);
    if (message.pasid !== NO_PASID) {
      PRD.PP.setPair(d, 0, 0, 1);
      PRD.PASID.setPair(d, 0, 0, message.pasid);
      PRD.EXE.setPair(d, 0, 0, message.execute ? 1 : 0);
      PRD.PM.setPair(d, 0, 0, message.privileged ? 1 : 0);
    }
    PRD.RD.setPair(d, 0, 0, message.read ? 1 : 0);
    PRD.WR.setPair(d, 0, 0, message.write ? 1 : 0);
    PRD.LPIG.setPair(d, 0, 0, message.last ? 1 : 0);
    PRD.PRGI.setPair(d, 0, 0, message.prgi);
    PRD.ADDR.setPair(d, 0, message.hi, message.lo);
    const { memory } = this.parts.ports;
    for (let word = 0; word < PRD.words; word += 2) memory.store64(pa + word * 4, d[word + 1], d[word]);
  }

  /** Drops a request; the last one of a group is answered by hardware (table 31). A Stop Marker, which has a PASID, never is. */
  #refuse(message: PageRequest, code: number, reason: string): void {
    const { trace } = this.parts.ports;
    if (trace.enabled) trace.emit("pri:dropped", { ...this.#who(message), prgi: message.prgi, reason });
    const stopMarker = message.pasid !== NO_PASID && !message.read && !message.write;
    if (message.last && !stopMarker) this.respond({ rid: message.rid, pasid: message.pasid, prgi: message.prgi, code });
  }

  /** Sends a PRG response message; lost when the function is gone. */
  respond = (response: PrgResponse): void => {
    const { ports, unit } = this.parts;
    const code = CODE_NAMES[response.code] ?? `0x${response.code.toString(16)}`;
    if (ports.trace.enabled)
      ports.trace.emit("pri:answered", { unit, rid: response.rid, pasid: response.pasid, prgi: response.prgi, code });
    ports.requesters.find(response.rid)?.pageResponse(response);
  };
}
