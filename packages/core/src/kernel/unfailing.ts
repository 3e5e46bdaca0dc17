/** Calls into a driver that their callers cannot let fail: an exit, an unmap and a removal go on whatever a device does. */
import { isErrno } from "./errno.js";
import type { Kernel } from "./kernel.js";

/** A driver's refusal goes to the log. @param what "0000:01:00.0: mm_detach". @returns whether the call succeeded */
export async function unfailing(kernel: Kernel, what: string, call: () => Promise<void> | undefined): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (error) {
    if (!isErrno(error)) throw error;
    kernel.printk(`${what} failed: ${error.message}`);
    return false;
  }
}
