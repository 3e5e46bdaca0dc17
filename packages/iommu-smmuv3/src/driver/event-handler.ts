/** The event queue's worker (arm_smmu_evtq_thread): stalled faults go to the kernel's fault queue (E17), everything else to the log. */
import { type Device, FaultPerm, isErrno, join64, NO_PASID } from "@iommukit/core";
import { EVENT, EVENTS, F_TRANSLATION } from "../spec/events.js";
import type { CommandQueue } from "./command-queue.js";
import { resume } from "./commands.js";
import type { DriverContext } from "./driver-context.js";
import { printDoublewords } from "./queue.js";
import { RateLimit } from "./rate-limit.js";
import type { RecordHandler } from "./record-queue.js";
import type { Streams } from "./streams.js";

/** Faults of a translation: one layout, and the only ones that can stall. */
const TRANSLATION_FAULTS: ReadonlySet<number> = new Set([
  EVENT.F_TRANSLATION,
  EVENT.F_ADDR_SIZE,
  EVENT.F_ACCESS,
  EVENT.F_PERMISSION,
]);
const FETCH_FAULTS: ReadonlySet<number> = new Set([EVENT.F_STE_FETCH, EVENT.F_CD_FETCH, EVENT.F_VMS_FETCH]);
/** event_class_str of the Linux driver. */
const CLASS_TEXT = ["CD fetch", "Stage 1 translation table fetch", "Input address caused fault", "Reserved"];

export class EventHandler implements RecordHandler {
  readonly #limit: RateLimit;

  constructor(
    private readonly context: DriverContext,
    private readonly commands: CommandQueue,
    private readonly streams: Streams,
  ) {
    // The function that prints; kernels that decode events have one of its own for it.
    this.#limit = new RateLimit(
      context.kernel,
      context.options.decodeEvents ? "arm_smmu_dump_event" : "arm_smmu_evtq_thread",
    );
  }

  async handle(event: Int32Array): Promise<void> {
    const id = F_TRANSLATION.ID.get(event);
    const stalled = TRANSLATION_FAULTS.has(id) && F_TRANSLATION.Stall.get(event) === 1;
    if (stalled) await this.#stalled(event);
    else this.#print(id, event);
  }

  overflowed(): void {
    this.context.print("EVTQ overflow detected -- events lost");
  }

  /** Held by the SMMU until it is told to go on. Nobody to tell: it ends, and is reported like one that did not stall. */
  async #stalled(event: Int32Array): Promise<void> {
    const sid = F_TRANSLATION.StreamID.get(event);
    const taken = await this.streams.with(sid, (master) => {
      // A second-stage fault is the hypervisor's: a process's tables cannot mend it.
      if (!master || F_TRANSLATION.S2.get(event) === 1) return false;
      return this.#report(master.device, event);
    });
    if (taken) return;
    this.#print(F_TRANSLATION.ID.get(event), event);
    await this.commands.issue(resume(sid, F_TRANSLATION.STAG.get(event), false));
  }

  #report(device: Device, event: Int32Array): boolean {
    const write = F_TRANSLATION.RnW.get(event) === 0;
    const perm =
      (write ? FaultPerm.WRITE : FaultPerm.READ) |
      (F_TRANSLATION.InD.get(event) ? FaultPerm.EXEC : 0) |
      (F_TRANSLATION.PnU.get(event) ? FaultPerm.PRIV : 0);
    try {
      this.context.sva.report(device, {
        pasid: F_TRANSLATION.SSV.get(event) ? F_TRANSLATION.SubstreamID.get(event) : NO_PASID,
        grpid: F_TRANSLATION.STAG.get(event),
        address: F_TRANSLATION.InputAddr.getBig(event),
        perm,
        last: true,
        responseNeedsPasid: false,
      });
      return true;
    } catch (error) {
      if (!isErrno(error)) throw error;
      return false;
    }
  }

  #print(id: number, event: Int32Array): void {
    if (!this.#limit.allows()) return;
    this.context.print(`event 0x${id.toString(16).padStart(2, "0")} received:`);
    printDoublewords(this.context, event);
    if (this.context.options.decodeEvents) for (const line of this.#decoded(id, event)) this.context.print(line);
  }

  #decoded(id: number, event: Int32Array): string[] {
    const hex = (value: number | bigint) => `0x${value.toString(16)}`;
    const sid = F_TRANSLATION.StreamID.get(event);
    const ssid = F_TRANSLATION.SSV.get(event) ? F_TRANSLATION.SubstreamID.get(event) : 0;
    const client = this.streams.find(sid)?.device.name ?? "(unassigned sid)";
    const head = `event: ${EVENTS.get(id)?.name ?? "UNKNOWN"} client: ${client} sid: ${hex(sid)} ssid: ${hex(ssid)}`;
    if (FETCH_FAULTS.has(id)) {
      const field = EVENTS.get(id)?.field("FetchAddr");
      return [`${head} fetch_addr: ${hex(field?.getBig(event) ?? 0n)}`];
    }
    if (!TRANSLATION_FAULTS.has(id)) return [head];
    const word = (name: "PnU" | "InD" | "RnW" | "S2" | "Stall", set: string, clear: string) =>
      F_TRANSLATION[name].get(event) ? set : clear;
    const kind = F_TRANSLATION.Class.get(event);
    const table = kind === 1 ? (F_TRANSLATION.TTRnW.get(event) ? " ttd_read" : " ttd_write") : "";
    const access = `${word("PnU", "priv", "unpriv")} ${word("InD", "inst", "data")} ${word("RnW", "read", "write")} ${word("S2", "s2", "s1")}`;
    return [
      `${head} iova: ${hex(join64(event[5], event[4]))} ipa: ${hex(F_TRANSLATION.IPA.getBig(event))}`,
      `${access} "${CLASS_TEXT[kind]}"${table}${word("Stall", " stall", "")} stag: ${hex(F_TRANSLATION.STAG.get(event))}`,
    ];
  }
}
