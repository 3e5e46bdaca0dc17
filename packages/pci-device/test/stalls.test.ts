import { VirtualTimeScheduler } from "@iommukit/core";
import { expect, it } from "vitest";
import { DmaStatus } from "../src/dma-status.js";
import type { DmaTransfer } from "../src/dma-transfer.js";
import { Stalls } from "../src/stalls.js";

/** As far as who waits for it looks at it. */
const stalled = (stag: number) => ({ stag, cancelled: false }) as DmaTransfer;

it("the answer to a transaction that was cancelled is not taken for that of the next with its tag", async () => {
  const scheduler = new VirtualTimeScheduler();
  const stalls = new Stalls(scheduler, "device");
  const seen: number[] = [];
  const wait = (transfer: DmaTransfer) =>
    scheduler.spawn("dma", async () => void seen.push(await stalls.wait(transfer)));
  await scheduler.run(async () => {
    const first = stalled(1);
    wait(first);
    await scheduler.idle();
    first.cancelled = true;
    stalls.wake();
    await scheduler.idle();
    stalls.resolve(1, "terminate");
    wait(stalled(1));
    await scheduler.idle();
    expect(seen).toHaveLength(1);
    stalls.resolve(1, "retry");
    await scheduler.idle();
    expect(seen[1]).toBe(DmaStatus.OK);
  });
});
