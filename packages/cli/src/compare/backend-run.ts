/** A process of the outside (or a simulated one that stands for it) on one backend's machine: bound, with a queue of its own. */
import type { TraceRecord } from "@iommukit/core";
import { Machine, RECORDS } from "./machine.js";
import type { Point } from "./points.js";
import type { Subject, SubjectSource } from "./subject.js";

export interface BackendRun {
  readonly machine: Machine;
  readonly subject: Subject;
  readonly pasid: number;
}

/** @param index which of the comparison's machines this is */
export async function startRun(
  point: Point,
  source: SubjectSource,
  index: number,
  listener?: (record: TraceRecord) => void,
): Promise<BackendRun> {
  const machine = await Machine.start({ ...point, services: source.services(), listener });
  const subject = await source.on(machine.platform, index);
  return machine.platform.run(async () => {
    await machine.setUp();
    const pasid = await machine.bind(subject.pid, point.label);
    await machine.enable([{ size: RECORDS, pasid }]);
    return { machine, subject, pasid };
  }, "set up");
}
