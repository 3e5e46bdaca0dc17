/**
 * The DMA engine that devices use. `tryRead` and `tryWrite` serve what needs no waiting, without a promise; `read` and
 * `write` also request pages and wait for the answer, wait for stalled transactions, and can be cancelled.
 */
import {
  Access,
  hi32,
  join64,
  lo32,
  NO_PASID,
  type Scheduler,
  type SystemBus,
  type Tracer,
  type TranslationPort,
  WaitQueue,
} from "@iommukit/core";
import { DmaStatus } from "./dma-status.js";
import { type DmaRequester, DmaTransfer } from "./dma-transfer.js";
import type { PageRequestInterface, PageRequestOutcome, WantedPage } from "./page-requests.js";
import { advanceSplit } from "./split-transactions.js";
import { type StallAction, Stalls } from "./stalls.js";

/** For `read` and `write`. */
export interface DmaOptions {
  /**
   * What happens when a translation is not there: "request" asks software for the page and waits, "report" ends the
   * transfer with NOT_PRESENT. Default: "request".
   */
  readonly onFault?: "request" | "report";
  /** Further Access bits: PRIV, EXEC. */
  readonly access?: number;
  /** What the transfer belongs to, for `cancel`. */
  readonly owner?: unknown;
}

/** How a transfer ended; `dmaStatusName` says it in a word. */
export interface DmaResult {
  /** A DmaStatus. */
  readonly status: number;
  /** Bytes moved. */
  readonly done: number;
  /** Address of the first byte that was not moved. */
  readonly address: bigint;
}

/** How a function's transfers go. */
export interface DmaEngineOptions {
  /** Pages of one transfer that are asked for together when they are missing. */
  readonly pagesPerRequest: number;
  /**
   * Transactions take time: between a translation and its use, and between use and data, other things may happen. For
   * exploring interleavings; `tryRead` and `tryWrite` then serve nothing.
   */
  readonly split: boolean;
}

/** How often one page is asked for before the transfer gives up: software may take it away again each time. */
const ATTEMPTS = 16;

const OUTCOME: Readonly<Record<PageRequestOutcome, number>> = {
  success: DmaStatus.OK,
  invalid: DmaStatus.INVALID_PAGE,
  failure: DmaStatus.RESPONSE_FAILURE,
  timeout: DmaStatus.TIMEOUT,
  disabled: DmaStatus.NOT_PRESENT,
  cancelled: DmaStatus.CANCELLED,
};

/** `this.dma` of a PciDevice. Addresses are bytes; `pasid` is NO_PASID for requests without one. */
export class DmaEngine {
  #sync: DmaTransfer;
  /** A transfer of tryAt that the IOMMU has stalled, until `read` or `write` takes it up. */
  #left: DmaTransfer | undefined;
  readonly #idle: DmaTransfer[] = [];
  readonly #active = new Set<DmaTransfer>();
  readonly #ended: WaitQueue;
  readonly #stalls: Stalls;

  constructor(
    private readonly requester: DmaRequester,
    private readonly pri: PageRequestInterface | undefined,
    private readonly options: DmaEngineOptions,
    private readonly port: TranslationPort,
    private readonly bus: SystemBus,
    private readonly scheduler: Scheduler,
    private readonly trace: Tracer,
  ) {
    this.#sync = this.#newTransfer();
    this.#ended = new WaitQueue(scheduler, `DMA of ${requester.bdf}`);
    this.#stalls = new Stalls(scheduler, requester.bdf);
  }

  #newTransfer(): DmaTransfer {
    return new DmaTransfer(this.requester, this.port, this.bus, this.trace);
  }

  /** Transfers that have begun and not ended. */
  get pending(): number {
    return this.#active.size;
  }

  /** Bytes that the last tryRead, tryWrite or tryAt moved. */
  get done(): number {
    return this.#sync.done;
  }

  /**
   * @returns OK; NOT_PRESENT or STALLED where only `read` can go on (with the same buffer); else why it failed. `done` bytes
   *   are moved.
   */
  tryRead(pasid: number, address: bigint, into: Uint8Array, access = 0): number {
    return this.tryAt(pasid, hi32(address), lo32(address), into, access | Access.READ);
  }

  tryWrite(pasid: number, address: bigint, bytes: Uint8Array, access = 0): number {
    return this.tryAt(pasid, hi32(address), lo32(address), bytes, access | Access.WRITE);
  }

  /** As tryRead and tryWrite, for an address in halves and with READ or WRITE in `access`: no bigint, no allocation. */
  tryAt(pasid: number, hi: number, lo: number, bytes: Uint8Array, access: number): number {
    const transfer = this.#sync;
    transfer.start(pasid, hi, lo, bytes, access);
    if (this.options.split) return DmaStatus.NOT_PRESENT;
    const status = transfer.advance();
    if (status === DmaStatus.STALLED) {
      this.#left = transfer;
      this.#sync = this.#newTransfer();
    } else if (status !== DmaStatus.NOT_PRESENT) this.#report(transfer, status);
    return status;
  }

  /** An interrupt message: never waits, whatever the options say. A stalled one goes out when it is resumed. */
  message(hi: number, lo: number, data: number): void {
    const transfer = this.#idle.pop() ?? this.#newTransfer();
    transfer.start(NO_PASID, hi, lo, new Uint8Array(Uint32Array.of(data).buffer), Access.WRITE);
    this.#sendMessage(transfer);
  }

  #sendMessage(transfer: DmaTransfer): void {
    const status = transfer.advance();
    if (status === DmaStatus.STALLED) {
      this.#stalls.whenResolved(transfer.stag, (action) => action === "retry" && this.#sendMessage(transfer));
      return;
    }
    this.#report(transfer, status);
    this.#idle.push(transfer);
  }

  read(pasid: number, address: bigint, into: Uint8Array, options: DmaOptions = {}): Promise<DmaResult> {
    return this.#run(pasid, address, into, Access.READ | (options.access ?? 0), options);
  }

  write(pasid: number, address: bigint, bytes: Uint8Array, options: DmaOptions = {}): Promise<DmaResult> {
    return this.#run(pasid, address, bytes, Access.WRITE | (options.access ?? 0), options);
  }

  async #run(
    pasid: number,
    address: bigint,
    bytes: Uint8Array,
    access: number,
    options: DmaOptions,
  ): Promise<DmaResult> {
    const left = this.#takeLeft(pasid, bytes);
    const transfer = left ?? this.#startNew(pasid, address, bytes, access);
    transfer.owner = options.owner;
    this.#active.add(transfer);
    const status = await this.#toTheEnd(transfer, left !== undefined, options.onFault !== "report");
    this.#report(transfer, status);
    const result = { status, done: transfer.done, address: join64(transfer.hi, transfer.lo) };
    this.#active.delete(transfer);
    this.#idle.push(transfer);
    this.#ended.wakeAll();
    return result;
  }

  #startNew(pasid: number, address: bigint, bytes: Uint8Array, access: number): DmaTransfer {
    const transfer = this.#idle.pop() ?? this.#newTransfer();
    transfer.start(pasid, hi32(address), lo32(address), bytes, access);
    return transfer;
  }

  #takeLeft(pasid: number, bytes: Uint8Array): DmaTransfer | undefined {
    const transfer = this.#left;
    if (transfer?.pasid !== pasid || !sameBuffer(transfer.bytes, bytes)) return undefined;
    this.#left = undefined;
    return transfer;
  }

  async #toTheEnd(transfer: DmaTransfer, stalled: boolean, mayRequest: boolean): Promise<number> {
    let status: number = stalled ? DmaStatus.STALLED : DmaStatus.OK;
    let attempts = 0;
    for (;;) {
      const before = transfer.done;
      if (status !== DmaStatus.STALLED) status = await this.#advance(transfer);
      if (transfer.cancelled) return DmaStatus.CANCELLED;
      attempts = transfer.done > before ? 1 : attempts + 1;
      let resolution: number;
      if (status === DmaStatus.STALLED) resolution = await this.#stalls.wait(transfer);
      else if (status === DmaStatus.NOT_PRESENT && mayRequest && attempts <= ATTEMPTS)
        resolution = await this.#requestPages(transfer);
      else return status;
      if (transfer.cancelled) return DmaStatus.CANCELLED;
      if (resolution !== DmaStatus.OK) return resolution;
      status = DmaStatus.OK;
    }
  }

  #advance(transfer: DmaTransfer): number | Promise<number> {
    return this.options.split ? advanceSplit(transfer, this.scheduler, this.requester.bdf) : transfer.advance();
  }

  /** One page request group for the page where the transfer stopped and those after it that are missing as well. */
  async #requestPages(transfer: DmaTransfer): Promise<number> {
    const { pri } = this;
    const ats = transfer.atsInUse();
    if (!pri?.usable || ats === undefined) return DmaStatus.NOT_PRESENT;
    const { pasid, access } = transfer;
    const pages: WantedPage[] = [{ hi: transfer.hi, lo: transfer.lo, access }];
    const ahead = this.#idle.pop() ?? this.#newTransfer();
    ahead.start(pasid, transfer.hi, transfer.lo, transfer.bytes.subarray(transfer.done), access);
    const limit = Math.min(this.options.pagesPerRequest, pri.allocation);
    for (ahead.skip(toNextPage(ahead.lo)); pages.length < limit && !ahead.finished; ahead.skip(toNextPage(ahead.lo))) {
      if (ahead.cached(ats) || ahead.request(ats) !== DmaStatus.OK || ahead.keep(ats)) break;
      pages.push({ hi: ahead.hi, lo: ahead.lo, access });
    }
    this.#idle.push(ahead);
    return OUTCOME[await pri.request(this.requester.requesterId, pasid, pages)];
  }

  /** The IOMMU lets a stalled transaction go on, or ends it. */
  stallResolved(stag: number, action: StallAction): void {
    this.#stalls.resolve(stag, action);
  }

  #report(transfer: DmaTransfer, status: number): void {
    const { bytes, done, access } = transfer;
    const write = (access & Access.WRITE) !== 0;
    if (status === DmaStatus.ABORTED && !write) bytes.fill(0, done);
    if (!this.trace.enabled) return;
    const { bdf: device, requesterId: rid } = this.requester;
    const address = BigInt.asUintN(64, join64(transfer.hi, transfer.lo) - BigInt(done));
    this.trace.emit("dma:completed", {
      device,
      rid,
      pasid: transfer.pasid,
      address,
      length: bytes.length,
      write,
      status,
    });
  }

  /**
   * Ends transfers at their next step and waits until they have ended: until no request of theirs is under way and no page
   * request unanswered.
   */
  async cancel(which: (transfer: { readonly pasid: number; readonly owner: unknown }) => boolean): Promise<void> {
    const ending = [...this.#active].filter(which);
    this.#mark(ending);
    await this.#ended.wait(() => !ending.some((transfer) => transfer.cancelled && this.#active.has(transfer)));
  }

  /** As cancel, without waiting: the function was reset or is gone. */
  cancelAll(): void {
    this.#mark(this.#active);
  }

  #mark(transfers: Iterable<DmaTransfer>): void {
    for (const transfer of transfers) transfer.cancelled = true;
    this.#stalls.wake();
  }
}

function sameBuffer(a: Uint8Array, b: Uint8Array): boolean {
  return a.buffer === b.buffer && a.byteOffset === b.byteOffset && a.length === b.length;
}

function toNextPage(lo: number): number {
  return 4096 - (lo & 0xfff);
}
