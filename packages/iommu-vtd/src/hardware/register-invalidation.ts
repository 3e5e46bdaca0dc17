/**
 * Invalidation through CCMD, IVA and IOTLB_REG (VT-d 6.5.1, 11.4.6): legacy mode only, and not on units of major version 6
 * and later, nor while the queue is enabled. The actual granularity is 0 for a request that was refused.
 */
import type { RegisterFile } from "@iommukit/core";
import { CCMD, type IotlbRegisters } from "../spec/registers.js";
import type { Capabilities } from "./capabilities.js";
import { type ConfigLookup, Ttm } from "./config-lookup.js";
import type { Invalidate } from "./invalidate.js";
import type { InvalidationQueue } from "./invalidation-queue.js";

export class RegisterInvalidation {
  constructor(
    private readonly caps: Capabilities,
    private readonly file: RegisterFile,
    private readonly iotlbRegisters: IotlbRegisters,
    private readonly config: ConfigLookup,
    private readonly queue: InvalidationQueue,
    private readonly invalidate: Invalidate,
  ) {
    file.onWrite(CCMD, (written) => this.#contextCommand(written));
    file.onWrite(iotlbRegisters.IOTLB, (written) => this.#iotlbCommand(written));
  }

  get #accepted(): boolean {
    return this.caps.majorVersion < 6 && this.config.ttm === Ttm.LEGACY && !this.queue.enabled;
  }

  /** The write of the upper half starts the command. */
  #contextCommand(written: number): void {
    const { words } = this.file;
    const at = CCMD.index;
    if ((written & 2) === 0 || CCMD.ICC.get(words, at) === 0) return;
    const granularity = this.#accepted ? CCMD.CIRG.get(words, at) : 0;
    if (granularity === 1) this.invalidate.contextAll();
    if (granularity === 2) this.invalidate.contextDomain(CCMD.DID.get(words, at));
    if (granularity === 3)
      this.invalidate.contextDevice(CCMD.DID.get(words, at), CCMD.SID.get(words, at), CCMD.FM.get(words, at));
    CCMD.CAIG.setPair(words, at, 0, granularity);
    CCMD.ICC.setPair(words, at, 0, 0);
  }

  #iotlbCommand(written: number): void {
    const { IOTLB, IVA } = this.iotlbRegisters;
    const { words } = this.file;
    const at = IOTLB.index;
    if ((written & 2) === 0 || IOTLB.IVT.get(words, at) === 0) return;
    const { cap } = this.caps;
    let granularity = this.#accepted ? IOTLB.IIRG.get(words, at) : 0;
    if (granularity === 3 && !cap.PSI) granularity = 2;
    if (granularity === 3 && IVA.AM.get(words, IVA.index) > cap.MAMV) granularity = 0;
    const did = IOTLB.DID.get(words, at);
    if (granularity === 1) this.invalidate.iotlbAll();
    if (granularity === 2) this.invalidate.iotlbDomain(did);
    if (granularity === 3) {
      const leafOnly = IVA.IH.get(words, IVA.index) === 1;
      this.invalidate.iotlbPages(
        did,
        IVA.ADDR.hi(words, IVA.index),
        IVA.ADDR.lo(words, IVA.index),
        IVA.AM.get(words, IVA.index),
        leafOnly,
      );
    }
    IOTLB.IAIG.setPair(words, at, 0, granularity);
    IOTLB.IVT.setPair(words, at, 0, 0);
  }
}
