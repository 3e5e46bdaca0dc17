/** The page request queue's worker (S39): requests go to the kernel's fault queue; stop markers are dropped (E11). */
import { FaultPerm, isErrno, NO_PASID } from "@iommukit/core";
import { PRIQ_ENTRY } from "../spec/page-requests.js";
import type { CommandQueue } from "./command-queue.js";
import { priResp } from "./commands.js";
import type { DriverContext } from "./driver-context.js";
import type { Master } from "./master.js";
import type { RecordHandler } from "./record-queue.js";
import type { Streams } from "./streams.js";

export class PageRequestHandler implements RecordHandler {
  constructor(
    private readonly context: DriverContext,
    private readonly commands: CommandQueue,
    private readonly streams: Streams,
  ) {}

  async handle(request: Int32Array): Promise<void> {
    const stop = PRIQ_ENTRY.Last.get(request) && !PRIQ_ENTRY.R.get(request) && !PRIQ_ENTRY.W.get(request);
    if (stop) return;
    const sid = PRIQ_ENTRY.StreamID.get(request);
    const taken = await this.streams.with(sid, (master) => master !== undefined && this.#report(master, request));
    if (taken || !PRIQ_ENTRY.Last.get(request)) return;
    await this.#refuse(sid, request);
  }

  /** The SMMU has answered the last requests that it dropped: what came before them waits for nothing (E12, S-14). */
  overflowed(): void {
    this.context.print("PRIQ overflow detected -- requests lost");
    this.context.sva.discardPartial(this.streams.devices());
  }

  #report(master: Master, request: Int32Array): boolean {
    const hasPasid = PRIQ_ENTRY.SSV.get(request) === 1;
    const bit = (name: "R" | "W" | "X" | "Priv", perm: number) => (PRIQ_ENTRY[name].get(request) ? perm : 0);
    try {
      this.context.sva.report(master.device, {
        pasid: hasPasid ? PRIQ_ENTRY.SubstreamID.get(request) : NO_PASID,
        grpid: PRIQ_ENTRY.PRGIndex.get(request),
        address: PRIQ_ENTRY.PageAddress.getBig(request),
        perm:
          bit("R", FaultPerm.READ) | bit("W", FaultPerm.WRITE) | bit("X", FaultPerm.EXEC) | bit("Priv", FaultPerm.PRIV),
        last: PRIQ_ENTRY.Last.get(request) === 1,
        responseNeedsPasid: hasPasid && master.responsesWithPasid,
      });
      return true;
    } catch (error) {
      if (!isErrno(error)) throw error;
      return false;
    }
  }

  /** Nobody handles the device's faults (E14): its group gets INVALID; a stream without a device is told to stop asking. */
  async #refuse(sid: number, request: Int32Array): Promise<void> {
    const master = this.streams.find(sid);
    const hasPasid = PRIQ_ENTRY.SSV.get(request) === 1;
    const ssid = hasPasid ? PRIQ_ENTRY.SubstreamID.get(request) : NO_PASID;
    const prgi = PRIQ_ENTRY.PRGIndex.get(request);
    this.#print(sid, request);
    const withPasid = master ? master.responsesWithPasid : hasPasid;
    await this.commands.issue(priResp(sid, withPasid ? ssid : NO_PASID, prgi, master ? "invalid" : "denied"));
  }

  #print(sid: number, request: Int32Array): void {
    const on = (name: "R" | "W" | "X") => (PRIQ_ENTRY[name].get(request) ? name : "");
    const ssid = PRIQ_ENTRY.SSV.get(request) ? PRIQ_ENTRY.SubstreamID.get(request) : 0;
    const stream = `0x${sid.toString(16).padStart(8, "0")}.0x${ssid.toString(16).padStart(5, "0")}`;
    const group = `[${PRIQ_ENTRY.PRGIndex.get(request)}${PRIQ_ENTRY.Last.get(request) ? "L" : ""}]`;
    const iova = `0x${PRIQ_ENTRY.PageAddress.getBig(request).toString(16).padStart(16, "0")}`;
    this.context.print("unexpected PRI request received:");
    this.context.print(
      `\tsid ${stream}: ${group} ${PRIQ_ENTRY.Priv.get(request) ? "" : "un"}privileged ${on("R")}${on("W")}${on("X")} access at iova ${iova}`,
    );
  }
}
