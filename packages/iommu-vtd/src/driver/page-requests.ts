/**
 * The page request queue from software's side (VT-d 7.4 to 7.7, 7.10; drivers/iommu/intel/prq.c): a thread validates
 * requests and hands them to the fault core, answers what it refuses, recovers from overflow, and drains a PASID (H19–H23).
 */
import {
  FaultPerm,
  IommuError,
  type IopfResponseCode,
  isErrno,
  type MaySleep,
  Mutex,
  NO_PASID,
  type Sva,
  unfailing,
  WaitQueue,
} from "@iommukit/core";
import { PAGE_REQUEST_DESCRIPTOR } from "../spec/page-requests.js";
import { PE, PQA, PQH, PQT, PRS } from "../spec/registers.js";
import {
  type Descriptor,
  deviceTlbInvalidate,
  fence,
  iotlbInvalidate,
  pageGroupResponse,
  pasidDeviceTlbInvalidate,
  pasidIotlbInvalidate,
} from "./descriptors.js";
import type { DeviceInfo } from "./device-info.js";
import { EventInterrupt } from "./event-interrupt.js";
import { EVERYTHING } from "./invalidation.js";
import type { InvalidationQueue } from "./invalidation-queue.js";
import type { Unit } from "./unit.js";

/** PRQ_ORDER: the queue has 2^4 pages, 2048 requests. */
const PRQ_ORDER = 4;
/** Credits of a device; all together never more than half of the queue (L-16). */
const PRQ_CREDITS = 32;

type PageRequestWords = ReturnType<typeof PAGE_REQUEST_DESCRIPTOR.decode>;

export class PageRequests {
  readonly #interrupt: EventInterrupt;
  readonly #handled: WaitQueue;
  /** iommu->iopf_lock: keeps a device while a fault of it is reported (L-6). */
  readonly lock: Mutex;
  readonly #order: number;
  #queue = 0;
  #credits = 0;
  #running = false;
  #again = false;
  /** Requests that have been handled since the queue was enabled. */
  #consumed = 0;

  constructor(
    private readonly unit: Unit,
    private readonly invalidationQueue: InvalidationQueue,
    private readonly sva: Sva,
    private readonly devices: ReadonlyMap<number, DeviceInfo>,
  ) {
    this.#interrupt = new EventInterrupt(unit, PE);
    this.#handled = new WaitQueue(unit.scheduler, `${unit.dmar} page requests`);
    this.lock = new Mutex(unit.scheduler, unit.trace, "iommu->iopf_lock");
    this.#order = unit.variants.has("L-16") ? 0 : PRQ_ORDER;
  }

  get #bytes(): number {
    return 4096 << this.#order;
  }

  enable(): void {
    const { mmio, pages, name } = this.unit;
    this.#queue = pages.alloc(1 << this.#order, `${name} page request queue`);
    this.#interrupt.request(() => this.#event());
    mmio.write64(PQH.offset, 0n);
    mmio.write64(PQT.offset, 0n);
    mmio.write64(PQA.offset, BigInt(this.#queue) | BigInt(this.#order));
  }

  disable(): void {
    if (this.#queue === 0) return;
    this.unit.mmio.write64(PQA.offset, 0n);
    this.#interrupt.free();
    this.unit.pages.free(this.#queue);
    this.#queue = 0;
  }

  /** Credits for one more device (L-16). @throws IommuError ENOSPC the queue has no room for what it might send */
  reserve(): number {
    if (this.unit.variants.has("L-16")) return this.#bytes / PAGE_REQUEST_DESCRIPTOR.bytes;
    const room = this.#bytes / PAGE_REQUEST_DESCRIPTOR.bytes / 2 - this.#credits;
    if (room === 0)
      throw new IommuError("ENOSPC", `${this.unit.dmar}: the page request queue is given out to other devices`);
    const credits = Math.min(PRQ_CREDITS, room);
    this.#credits += credits;
    return credits;
  }

  release(credits: number): void {
    this.#credits -= credits;
  }

  /** Interrupt context: starts the thread, or makes it look once more. */
  #event(): void {
    this.#again = true;
    if (this.#running) return;
    this.#running = true;
    this.unit.scheduler.spawn(`irq/${this.unit.dmar}-prq`, () => this.#thread());
  }

  async #thread(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      // Before head and tail are read, so that what comes later raises a new event.
      this.unit.mmio.write32(PRS.offset, PRS.PPR.lowMask);
      if (this.unit.variants.has("L-15")) this.unit.mmio.write32(PRS.offset, PRS.PRO.lowMask);
      await this.#consume();
      this.#recover();
      this.#handled.wakeAll();
    }
    this.#running = false;
  }

  async #consume(): Promise<void> {
    const { mmio, variants, kernel, dmar } = this.unit;
    const mask = this.#ringMask;
    const tail = mmio.read32(PQT.offset) & mask;
    let head = mmio.read32(PQH.offset) & mask;
    while (head !== tail) {
      const request = this.#read(head);
      await unfailing(kernel, `${dmar}: page request`, () => this.#handle(request));
      head = (head + PAGE_REQUEST_DESCRIPTOR.bytes) & mask;
      // At once: each freed slot lets the unit take one more request (L-16).
      if (!variants.has("L-16")) this.#advance(head);
    }
    this.#advance(head);
  }

  #advance(head: number): void {
    const { mmio } = this.unit;
    this.#consumed += ((head - mmio.read32(PQH.offset)) & this.#ringMask) / PAGE_REQUEST_DESCRIPTOR.bytes;
    mmio.write64(PQH.offset, BigInt(head));
  }

  /** Offsets in the ring. The bug masks with the size of the ring less one page (L-18). */
  get #ringMask(): number {
    const size = this.#bytes;
    return this.unit.variants.has("L-18") ? (size - 1) & ~0xfff : (size - 1) & ~(PAGE_REQUEST_DESCRIPTOR.bytes - 1);
  }

  /** Overflow: requests were lost and the unit answered for them; what waits for its last request waits in vain (E12). */
  #recover(): void {
    const { mmio, kernel, dmar } = this.unit;
    if ((mmio.read32(PRS.offset) & PRS.PRO.lowMask) === 0) return;
    kernel.printk(`IOMMU: ${dmar}: PRQ overflow detected`);
    if (mmio.read32(PQH.offset) !== mmio.read32(PQT.offset)) {
      this.#again = true;
      return;
    }
    this.sva.discardPartial([...this.devices.values()].map(({ device }) => device));
    mmio.write32(PRS.offset, PRS.PRO.lowMask);
    kernel.printk(`IOMMU: ${dmar}: PRQ overflow cleared`);
  }

  #read(head: number): Int32Array {
    const at = this.#queue + head;
    return Int32Array.from({ length: PAGE_REQUEST_DESCRIPTOR.words }, (_, i) => this.unit.memory.load32(at + i * 4));
  }

  async #handle(words: Int32Array): Promise<void> {
    const request = PAGE_REQUEST_DESCRIPTOR.decode(words);
    const invalid = this.#whyInvalid(request);
    if (invalid !== undefined) {
      this.unit.kernel.printk(`IOMMU: ${this.unit.dmar}: ${invalid}`);
      return this.#refuse(request, words);
    }
    // A Stop Marker: the device has stopped using the PASID. Nobody waits for an answer (E11).
    if (request.LPIG && !request.RD && !request.WR) return;
    await this.lock.lock();
    const reported = this.#report(request);
    this.lock.unlock();
    if (!reported) await this.#refuse(request, words);
    else if (this.unit.variants.has("L-17") && !request.LPIG) await this.#answer(request, "success");
  }

  /** H22: what Linux says of a request that it does not hand on. */
  #whyInvalid({ ADDR, PM, RD, WR, EXE }: PageRequestWords): string | undefined {
    if (!isCanonical(BigInt(ADDR), this.unit.features.cap.FS5LP ? 57 : 48)) return "Address is not canonical";
    if (PM && (RD || WR)) return "Page request in Privilege Mode";
    if (EXE && RD) return "Execution request not supported";
    return undefined;
  }

  /** @returns false when nobody takes faults of the device */
  #report({ RID, PP, PASID, PRGI, ADDR, RD, WR, EXE, PM, LPIG }: PageRequestWords): boolean {
    const info = this.devices.get(RID);
    if (!info) return false;
    const perm =
      (RD ? FaultPerm.READ : 0) | (WR ? FaultPerm.WRITE : 0) | (EXE ? FaultPerm.EXEC : 0) | (PM ? FaultPerm.PRIV : 0);
    try {
      this.sva.report(info.device, {
        pasid: PP ? PASID : NO_PASID,
        grpid: PRGI,
        address: BigInt(ADDR),
        perm,
        last: LPIG,
        responseNeedsPasid: PP,
      });
      return true;
    } catch (error) {
      if (isErrno(error)) return false;
      throw error;
    }
  }

  /** Answers a request that nobody will handle; only the last of a group has an answer (H21). */
  async #refuse(request: PageRequestWords, words: Int32Array): Promise<void> {
    const quad = (word: number) =>
      ((BigInt(words[word + 1] >>> 0) << 32n) | BigInt(words[word] >>> 0)).toString(16).padStart(8, "0");
    this.unit.kernel.printk(`${this.unit.dmar}: Invalid page request: ${quad(0)} ${quad(2)}`);
    if (request.LPIG || this.unit.variants.has("L-17")) await this.#answer(request, "invalid");
  }

  #answer({ RID, PP, PASID, PRGI, LPIG }: PageRequestWords, code: IopfResponseCode): MaySleep {
    return this.respond(RID, PP ? PASID : NO_PASID, PRGI, code, LPIG);
  }

  /** Sends the answer to a group. */
  respond(rid: number, pasid: number, prgi: number, code: IopfResponseCode, last = true): MaySleep {
    const lpig = last && this.unit.variants.has("L-17");
    return this.invalidationQueue.submit([
      pageGroupResponse({ rid, pasid: pasid === NO_PASID ? undefined : pasid, prgi, code, last: lpig }),
    ]);
  }

  /** Waits until what the function has in the queue now has been handled; not longer, however much comes meanwhile (E9). */
  flush(rid: number): Promise<void> {
    const last = [...this.#queued()].findLastIndex((request) => request.RID === rid);
    const until = this.#consumed + last + 1;
    return this.#handled.wait(() => this.#consumed >= until);
  }

  /**
   * Makes sure that no page request or response of the function with that PASID is anywhere (H23). The PASID's entry is
   * not present and its caches are invalidated. @param pasid the function's ridPasid for requests without PASID
   */
  async drain(info: DeviceInfo, pasid: number, did: number): Promise<void> {
    const { variants } = this.unit;
    if (!info.priEnabled || variants.has("L-13")) return;
    if (variants.has("L-5")) await this.lock.lock();
    await this.#drainSoftware(info, pasid);
    do {
      await this.#handled.wait(() => (this.unit.mmio.read32(PRS.offset) & PRS.PRO.lowMask) === 0);
      await this.invalidationQueue.submit(this.#drainDescriptors(info, pasid, did), this.unit.features.ecap.PDS);
    } while (this.unit.mmio.read32(PRS.offset) & PRS.PRO.lowMask);
    // What the unit still held is in the queue now.
    await this.#drainSoftware(info, pasid);
    if (variants.has("L-5")) this.lock.unlock();
  }

  async #drainSoftware(info: DeviceInfo, pasid: number): Promise<void> {
    const rid = info.rid;
    const byPasidOnly = this.unit.variants.has("L-14");
    const matches = (request: PageRequestWords) => {
      if (!byPasidOnly && request.RID !== rid) return false;
      return request.PP ? request.PASID === pasid : !byPasidOnly && pasid === info.ridPasid;
    };
    await this.#handled.wait(() => ![...this.#queued()].some(matches));
    await this.sva.flushDevice(info.device, pasid === info.ridPasid ? NO_PASID : pasid);
  }

  #drainDescriptors(info: DeviceInfo, pasid: number, did: number): Descriptor[] {
    const ofRid = pasid === info.ridPasid;
    const iotlb = ofRid ? iotlbInvalidate(this.unit.features.cap, "domain", did) : pasidIotlbInvalidate(did, pasid);
    const descriptors = [fence(), iotlb];
    if (info.hasDeviceTlb)
      descriptors.push(
        ofRid ? deviceTlbInvalidate(info, EVERYTHING) : pasidDeviceTlbInvalidate(info, pasid, EVERYTHING),
      );
    return descriptors;
  }

  /** From the head on: what the thread has not handled. */
  *#queued(): Generator<PageRequestWords> {
    const { mmio } = this.unit;
    const mask = this.#ringMask;
    const tail = mmio.read32(PQT.offset) & mask;
    for (
      let head = mmio.read32(PQH.offset) & mask;
      head !== tail;
      head = (head + PAGE_REQUEST_DESCRIPTOR.bytes) & mask
    ) {
      yield PAGE_REQUEST_DESCRIPTOR.decode(this.#read(head));
    }
  }
}

/** Bits above the highest usable one repeat it. */
function isCanonical(address: bigint, bits: number): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(bits, address)) === address;
}
