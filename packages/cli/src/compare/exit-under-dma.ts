/** The end of a comparison: the process dies while the device works on its memory. What did the IOMMU record? */
import type { BackendRun } from "./backend-run.js";

const DESCRIPTORS = 8;
const SIZE = 4 * 1024 * 1024;

export interface ExitReport {
  /** Faults recorded from the death of the process on. */
  readonly faultsRecorded: number;
  /** Descriptors that were given to the device before the death, by how they ended. */
  readonly descriptors: Readonly<Record<string, number>>;
  /** The PASID was taken back. */
  readonly pasidFreed: boolean;
}

export class ExitUnderDma {
  #slots: number[] = [];
  #faultsBefore = 0;

  constructor(private readonly run: BackendRun) {}

  /** Gives the device more work than it can do before the process dies, and lets it begin. */
  async begin(): Promise<void> {
    const { machine, subject } = this.run;
    const { file } = subject;
    await machine.platform.run(async () => {
      for (let i = 0; i < DESCRIPTORS; i++) {
        const TransferSize = Math.min(SIZE, file.length);
        this.#slots.push(await machine.submit({ Opcode: "CRC32", Source: file.address, TransferSize }));
      }
      this.#faultsBefore = machine.counts.faultsRecorded;
    }, "work");
  }

  /** After the death: lets the platform notice and the device finish. */
  async finish(): Promise<ExitReport> {
    const { machine, subject } = this.run;
    const { platform } = machine;
    return platform.run(async () => {
      while (await subject.refresh()) await platform.scheduler.sleep(1_000_000);
      // mm_exit, the drain of the page request queue and the device's last steps, all in virtual time.
      await platform.scheduler.sleep(1_000_000_000);
      const descriptors: Record<string, number> = {};
      for (const slot of this.#slots) {
        const status = String((await machine.poll(slot))?.Status ?? "not completed");
        descriptors[status] = (descriptors[status] ?? 0) + 1;
      }
      return {
        faultsRecorded: machine.counts.faultsRecorded - this.#faultsBefore,
        descriptors,
        pasidFreed: platform.sva.inUse().pasids === 0,
      };
    }, "exit");
  }
}
