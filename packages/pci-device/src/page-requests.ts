/**
 * Page Request Interface of one function (PCIe 10.4): groups of page requests with an index, credits, responses and what
 * they do to the interface, Stop Markers. A physical function's VFs share its interface.
 */
import {
  Access,
  join64,
  NO_PASID,
  type PrgResponse,
  PrgResponseCode,
  type Scheduler,
  type Timer,
  type Tracer,
  type TranslationPort,
  WaitQueue,
} from "@iommukit/core";

/** A page that a function wants, and what for (Access bits). */
export interface WantedPage {
  readonly hi: number;
  readonly lo: number;
  readonly access: number;
}

/** How a page request group ended. Only after "success" does it make sense to ask for the translation again. */
export type PageRequestOutcome =
  | "success"
  /** Invalid Request: one of the pages may not be accessed that way. */
  | "invalid"
  /** Response Failure, or any code that the specification does not define: the interface has stopped. */
  | "failure"
  /** Nobody answered in time. */
  | "timeout"
  /** The interface is not enabled, has failed before, or has no credits. */
  | "disabled"
  /** Reset of the interface or of the function. */
  | "cancelled";

/** Time-out, and what responses have to carry. */
export interface PageRequestOptions {
  /** Nanoseconds after which a group is given up; 0: never. */
  readonly timeout: number;
  readonly pasidRequired: boolean;
}

/** Status bits of the capability that the interface drives. */
export interface PageRequestStatus {
  stopped(value: boolean): void;
  responseFailure(): void;
  unexpectedIndex(): void;
}

/** Page Request Group Index: 9 bits. */
const INDICES = 512;

interface Group {
  readonly prgi: number;
  readonly rid: number;
  readonly pasid: number;
  readonly pages: number;
  readonly answered: WaitQueue;
  outcome: PageRequestOutcome | undefined;
  timer: Timer | undefined;
}

/** `this.pri` of a PciDevice that has the capability. */
export class PageRequestInterface {
  /** Enable of the capability. */
  enabled = false;
  /** Outstanding Page Request Allocation. */
  allocation = 0;
  readonly #groups = new Map<number, Group>();
  readonly #credits: WaitQueue;
  #outstanding = 0;
  #nextIndex = 0;
  #failed = false;

  constructor(
    private readonly name: string,
    private readonly options: PageRequestOptions,
    private readonly status: PageRequestStatus,
    private readonly port: TranslationPort,
    private readonly scheduler: Scheduler,
    private readonly trace: Tracer,
  ) {
    this.#credits = new WaitQueue(scheduler, `page request credits of ${name}`);
  }

  /** Page requests that nobody has answered. */
  get outstanding(): number {
    return this.#outstanding;
  }

  get usable(): boolean {
    return this.enabled && !this.#failed && this.allocation > 0;
  }

  /**
   * Asks for pages as one group and waits for the answer. More pages than credits are asked for in several groups.
   * @param rid the function, or one of its VFs
   */
  async request(rid: number, pasid: number, pages: readonly WantedPage[]): Promise<PageRequestOutcome> {
    for (let from = 0; from < pages.length; ) {
      if (!this.usable) return "disabled";
      // Software may have changed the allocation while it waited.
      const count = () => Math.min(this.allocation, pages.length - from);
      await this.#credits.wait(
        () => !this.usable || (this.#outstanding + count() <= this.allocation && this.#groups.size < INDICES),
      );
      if (!this.usable) return "disabled";
      const part = pages.slice(from, from + count());
      const outcome = await this.#send(rid, pasid, part);
      if (outcome !== "success") return outcome;
      from += part.length;
    }
    return "success";
  }

  async #send(rid: number, pasid: number, pages: readonly WantedPage[]): Promise<PageRequestOutcome> {
    const prgi = this.#takeIndex();
    const answered = new WaitQueue(this.scheduler, `response to page request group ${prgi} of ${this.name}`);
    const group: Group = { prgi, rid, pasid, pages: pages.length, answered, outcome: undefined, timer: undefined };
    this.#groups.set(prgi, group);
    this.#outstanding += pages.length;
    if (this.options.timeout > 0)
      group.timer = this.scheduler.timer(this.options.timeout, () => this.#finish(group, "timeout"));
    for (const [index, page] of pages.entries()) this.#message(rid, pasid, page, prgi, index === pages.length - 1);
    await answered.wait(() => group.outcome !== undefined);
    return group.outcome ?? "cancelled";
  }

  #takeIndex(): number {
    while (this.#groups.has(this.#nextIndex)) this.#nextIndex = (this.#nextIndex + 1) % INDICES;
    const prgi = this.#nextIndex;
    this.#nextIndex = (prgi + 1) % INDICES;
    return prgi;
  }

  #message(rid: number, pasid: number, { hi, lo, access }: WantedPage, prgi: number, last: boolean): void {
    if (this.trace.enabled) {
      this.trace.emit("pri:requested", {
        unit: this.name,
        rid,
        pasid,
        address: join64(hi, lo & ~0xfff),
        prgi,
        last,
        access,
      });
    }
    this.port.pageRequest({
      rid,
      pasid,
      hi,
      lo: lo & ~0xfff,
      read: (access & Access.READ) !== 0,
      write: (access & Access.WRITE) !== 0,
      execute: (access & Access.EXEC) !== 0,
      privileged: (access & Access.PRIV) !== 0,
      last,
      prgi,
    });
  }

  /** Stop Marker: no request with the PASID follows until software has the device use it anew (10.4.1.2.1). Needs no credit. */
  sendStopMarker(rid: number, pasid: number): void {
    if (this.usable) this.#message(rid, pasid, { hi: 0, lo: 0, access: 0 }, 0, true);
  }

  /** A PRG Response message. */
  respond({ rid, pasid, prgi, code }: PrgResponse): void {
    // Once it has failed, the interface expects no responses and ignores those that come (10.5.2.3).
    if (this.#failed) return;
    const group = this.#groups.get(prgi);
    // A failure concerns the whole interface; IOMMUs send their own without a PASID.
    const failure = code !== PrgResponseCode.SUCCESS && code !== PrgResponseCode.INVALID_REQUEST;
    const named = failure || !this.options.pasidRequired || group?.pasid === NO_PASID || group?.pasid === pasid;
    const matches = group?.rid === rid && named;
    if (!group || !matches) this.status.unexpectedIndex();
    else if (code === PrgResponseCode.SUCCESS) this.#finish(group, "success");
    else if (code === PrgResponseCode.INVALID_REQUEST) this.#finish(group, "invalid");
    else this.#fail();
  }

  #finish(group: Group, outcome: PageRequestOutcome): void {
    group.timer?.cancel();
    group.outcome = outcome;
    this.#groups.delete(group.prgi);
    this.#outstanding -= group.pages;
    group.answered.wakeAll();
    this.#credits.wakeAll();
    this.#settle();
  }

  /** Stopped means: disabled, and nothing outstanding. */
  #settle(): void {
    this.status.stopped(!this.enabled && this.#outstanding === 0);
  }

  #fail(): void {
    this.#failed = true;
    this.status.responseFailure();
    for (const group of [...this.#groups.values()]) this.#finish(group, "failure");
  }

  /** Enable went from 0 to 1. The capability's status bits have been cleared. */
  enable(): void {
    this.enabled = true;
    this.#failed = false;
    this.#settle();
  }

  /** Enable went from 1 to 0: no new requests; those outstanding are still answered. */
  disable(): void {
    this.enabled = false;
    this.#credits.wakeAll();
    this.#settle();
  }

  /** Reset of one of the functions that share the interface: nobody waits for its answers any more. */
  forget(rid: number): void {
    for (const group of [...this.#groups.values()]) if (group.rid === rid) this.#finish(group, "cancelled");
  }

  /** Reset of the capability, or of the function: credits and pending requests are forgotten. */
  reset(): void {
    for (const group of [...this.#groups.values()]) this.#finish(group, "cancelled");
    this.#failed = false;
    this.#credits.wakeAll();
    this.#settle();
  }
}
