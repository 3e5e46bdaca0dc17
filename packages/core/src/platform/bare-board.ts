/** The board of a chip that stands alone: for whoever looks at a chip without a machine around it. */
import type { ChipPorts } from "../bus/ports.js";
import type { Scheduler } from "../kernel/scheduler.js";
import { VirtualTimeScheduler } from "../kernel/virtual-time-scheduler.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import { Tracer } from "../trace/tracer.js";

/**
 * RAM, time and a trace. Messages arrive and nobody hears them, wires end in the air, and no function is behind the chip.
 * @param connected what is different
 */
export function bareBoard(
  memory: PhysicalMemory,
  connected: Partial<Pick<ChipPorts, "message" | "wire" | "requesters">> = {},
): ChipPorts {
  const scheduler: Scheduler = new VirtualTimeScheduler();
  return {
    memory,
    message: () => true,
    wire: () => {},
    requesters: { find: () => undefined },
    scheduler,
    trace: new Tracer(() => scheduler.now),
    ...connected,
  };
}
