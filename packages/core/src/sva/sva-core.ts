import type { Kernel } from "../kernel/kernel.js";
import type { Scheduler } from "../kernel/scheduler.js";
import type { Tracer } from "../trace/tracer.js";
import type { Sva } from "./sva.js";

export declare class SvaCoreShape {}
export interface SvaCore extends Sva {}
export class SvaCore {
  constructor(
    readonly scheduler: Scheduler,
    readonly trace: Tracer,
    readonly kernel: Kernel,
  ) {}
}
