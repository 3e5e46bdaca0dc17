import { describe, expect, it } from "vitest";
import { EventFd, type Task } from "../../src/index.js";
import { machine } from "../sva/machine.js";

const MOST = 0xffff_ffff_ffff_fffen;
const task = {} as Task;

function bytes(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}

describe("eventfd", () => {
  it("gives what was added and starts over; who reads zero waits", async () => {
    const { run, scheduler } = machine();
    await run(async () => {
      const event = new EventFd(scheduler, 3);
      const into = new Uint8Array(8);
      await event.write(task, bytes(4n));
      expect(await event.read(task, into)).toBe(8);
      expect(into).toEqual(bytes(7n));
      scheduler.timer(1000, () => event.signal());
      await event.read(task, into);
      expect([scheduler.now, into]).toEqual([1000, bytes(1n)]);
    });
  });

  it("takes no more than it has room for: a writer waits for a reader", async () => {
    const { run, scheduler } = machine();
    await run(async () => {
      const event = new EventFd(scheduler);
      await event.write(task, bytes(MOST));
      scheduler.spawn("reader", async () => {
        await scheduler.sleep(1000);
        await event.read(task, new Uint8Array(8));
      });
      await event.write(task, bytes(1n));
      expect([scheduler.now, event.count]).toEqual([1000, 1n]);
      await expect(event.write(task, bytes(MOST + 1n))).rejects.toThrow("EINVAL");
      await expect(event.write(task, new Uint8Array(7))).rejects.toThrow("EINVAL");
    });
  });

  it("answers EAGAIN instead of waiting when it was made so; signals never wait", async () => {
    const { run, scheduler } = machine();
    await run(async () => {
      const event = new EventFd(scheduler, 0, true);
      await expect(event.read(task, new Uint8Array(8))).rejects.toThrow("EAGAIN");
      await event.write(task, bytes(MOST));
      await expect(event.write(task, bytes(1n))).rejects.toThrow("EAGAIN");
      event.signal();
      expect(event.count).toBe(MOST);
    });
  });
});
