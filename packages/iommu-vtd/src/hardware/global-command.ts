/**
 * GCMD and GSTS (VT-d 11.4.4): enables follow the written value, one-shot commands run when their bit is set. Each is done
 * before the write returns. Left out: advanced fault logging (CAP.AFL is 0 in every preset).
 */
import type { RegisterFile } from "@iommukit/core";
import { GCMD, GSTS, IRTA, RTADDR } from "../spec/registers.js";
import type { Capabilities } from "./capabilities.js";
import type { ConfigLookup } from "./config-lookup.js";
import type { FaultRecording } from "./fault-recording.js";
import type { InterruptRemapping } from "./interrupt-remapping.js";
import type { Invalidate } from "./invalidate.js";
import type { InvalidationQueue } from "./invalidation-queue.js";

export interface GlobalCommandParts {
  readonly caps: Capabilities;
  readonly file: RegisterFile;
  readonly config: ConfigLookup;
  readonly invalidate: Invalidate;
  readonly queue: InvalidationQueue;
  readonly interrupts: InterruptRemapping;
  readonly faults: FaultRecording;
  /** Called when the root table or the translation enable has changed. */
  readonly modeChanged: () => void;
}

export class GlobalCommand {
  /** GSTS.TES */
  translating = false;

  constructor(private readonly parts: GlobalCommandParts) {
    parts.file.onWrite(GCMD, () => this.#command());
  }

  reset(): void {
    this.translating = false;
  }

  #command(): void {
    const { caps, file, queue } = this.parts;
    const { words } = file;
    const at = GCMD.index;
    const asks = (field: typeof GCMD.TE) => field.get(words, at) === 1;
    if (asks(GCMD.SRTP)) this.#setRootTable();
    if (caps.ecap.IR && asks(GCMD.SIRTP)) this.#setInterruptTable();
    // The buffers hold nothing back in this model: the flush is complete at once, and WBFS never seen set (6.8).
    if (caps.ecap.IR) GSTS.CFIS.setPair(words, GSTS.index, 0, asks(GCMD.CFI) ? 1 : 0);
    if (caps.ecap.QI && asks(GCMD.QIE) !== queue.enabled) {
      GSTS.QIES.setPair(words, GSTS.index, 0, asks(GCMD.QIE) ? 1 : 0);
      if (asks(GCMD.QIE)) queue.enable();
      else queue.disable();
    }
    if (caps.ecap.IR) this.#enableInterrupts(asks(GCMD.IRE));
    this.#enableTranslation(asks(GCMD.TE));
    file.words[at] = 0;
  }

  /** 6.6: the mode and the table take effect here. Caches keep what they have unless CAP.ESRTPS. */
  #setRootTable(): void {
    const { caps, config, file, invalidate } = this.parts;
    const { words } = file;
    config.setRoot(
      RTADDR.RTA.hi(words, RTADDR.index),
      RTADDR.RTA.lo(words, RTADDR.index),
      RTADDR.TTM.get(words, RTADDR.index),
    );
    this.parts.modeChanged();
    if (caps.cap.ESRTPS) invalidate.everything();
    GSTS.RTPS.setPair(words, GSTS.index, 0, 1);
  }

  /** 6.7 */
  #setInterruptTable(): void {
    const { caps, file, interrupts, invalidate } = this.parts;
    const { words } = file;
    interrupts.setTable(
      IRTA.IRTA.hi(words, IRTA.index),
      IRTA.IRTA.lo(words, IRTA.index),
      2 << IRTA.S.get(words, IRTA.index),
      IRTA.EIME.get(words, IRTA.index) === 1,
    );
    if (caps.cap.ESIRTPS) invalidate.interruptEntriesAll();
    GSTS.IRTPS.setPair(words, GSTS.index, 0, 1);
  }

  #enableInterrupts(enable: boolean): void {
    const { caps, file, interrupts, invalidate } = this.parts;
    if (interrupts.enabled && !enable && caps.cap.ESIRTPS) invalidate.interruptEntriesAll();
    interrupts.enabled = enable;
    GSTS.IRES.setPair(file.words, GSTS.index, 0, enable ? 1 : 0);
    this.#restartRecording();
  }

  #enableTranslation(enable: boolean): void {
    const { caps, file, invalidate } = this.parts;
    if (this.translating && !enable && caps.ecap.SMTS) invalidate.everything();
    this.translating = enable;
    this.parts.modeChanged();
    GSTS.TES.setPair(file.words, GSTS.index, 0, enable ? 1 : 0);
    this.#restartRecording();
  }

  #restartRecording(): void {
    if (!this.translating && !this.parts.interrupts.enabled) this.parts.faults.restart();
  }
}
