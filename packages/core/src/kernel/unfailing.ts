/** Calls into a driver that their callers cannot let fail: an exit, an unmap and a removal go on whatever a device does. */
import { isErrno } from "./errno.js";
import type { MaySleep } from "./may-sleep.js";

/** dmesg. */
export interface KernelLog {
  printk(line: string): void;
}

/** A driver's refusal goes to the log. @param what "0000:01:00.0: mm_detach". @returns whether the call succeeded */
export async function unfailing(log: KernelLog, what: string, call: () => MaySleep): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (error) {
    if (!isErrno(error)) throw error;
    log.printk(`${what} failed: ${error.message}`);
    return false;
  }
}
