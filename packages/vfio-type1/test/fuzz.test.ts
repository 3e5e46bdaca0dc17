/** Any bytes on any descriptor: an errno or success, never an exception, and nothing left behind. */
import {
  type AddressSpace,
  ERRNO,
  EventFd,
  isErrno,
  O,
  OpenFile,
  type PciBar,
  Random,
  type Task,
} from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { VFIO_SET_IOMMU, VfioContainer } from "../src/index.js";
import { A, B, closeClean, groupOf, type Machine, machine } from "./support/machine.js";

const CALLS = 100_000;
/** The numbers of VFIO's ioctls, and some around them. */
const FIRST = 0x3b60;
const LAST = 0x3b94;
/** Values at the borders of the checks. */
const EDGES = [
  0, 1, 2, 3, 4, 7, 8, 16, 20, 24, 32, 48, 0x1000, 0x2000, 0x7fff_ffff, 0x8000_0000, 0xffff_f000, 0xffff_ffff,
];

/** What each kind of descriptor knows: container (with or without an IOMMU), group, device, in the order of `descriptors`. */
const ON_CONTAINER = [0x64, 0x65, 0x66, 0x70, 0x71, 0x72, 0x75, 0x7a, 0x7b];
const ON_GROUP = [0x67, 0x68, 0x69, 0x6a];
const ON_DEVICE = [0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71, 0x74, 0x75];
const KNOWN = [ON_CONTAINER, ON_GROUP, ON_DEVICE, ON_CONTAINER, ON_GROUP, []];

function randomRequest(random: Random, kind: number): number {
  const known = KNOWN[kind];
  if (random.u32() % 50 === 0) return random.u32();
  if (known.length > 0 && random.u32() % 4 !== 0) return 0x3b00 + known[random.u32() % known.length];
  return FIRST + (random.u32() % (LAST - FIRST));
}

class FunctionWithBar extends FakePciFunction {
  override readonly bars: readonly PciBar[] = [{ index: 0, size: 0x1000, kind: "mem32", prefetchable: false }];
}

function randomArgument(random: Random, memory: bigint): Uint8Array {
  const bytes = new Uint8Array(random.u32() % 80);
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const edge = EDGES[random.u32() % EDGES.length];
    const word = random.u32() % 4 === 0 ? random.u32() : edge;
    new DataView(bytes.buffer).setUint32(at, word >>> 0, true);
  }
  // Often a plausible head and an address of the program's own memory, so that what follows the checks is reached too.
  if (bytes.length >= 32 && random.u32() % 2 === 0) {
    const view = new DataView(bytes.buffer);
    view.setUint32(0, [bytes.length, 20, 24, 32, 48][random.u32() % 5], true);
    view.setUint32(4, random.u32() % 6, true);
    view.setBigUint64(8, random.u32() % 2 ? memory : BigInt(random.u32() % 16) * 0x1000n, true);
    view.setBigUint64(16, BigInt(random.u32() % 16) * 0x1000n, true);
    view.setBigUint64(24, BigInt(random.u32() % 4) * 0x1000n, true);
  }
  return bytes;
}

async function descriptors(m: Machine, task: Task): Promise<number[]> {
  const container = await VfioContainer.open(task);
  const group = await container.attach(groupOf(m.platform, A));
  await container.setIommu();
  const device = await group.device(A);
  const empty = await VfioContainer.open(task);
  const other = await task.open(`/dev/vfio/${groupOf(m.platform, B)}`, O.RDWR);
  const event = task.fds.install(new OpenFile(new EventFd(m.platform.scheduler, 0, true), O.RDWR));
  return [container.fd, group.fd, device.fd, empty.fd, other, event];
}

describe("every kind of descriptor", () => {
  it.each([1, 2])(
    "answers 100,000 random ioctls with an errno or success, seed %i",
    { timeout: 60_000 },
    async (seed) => {
      const m = await machine({ functions: [A, B].map((bdf) => new FunctionWithBar(bdf)) });
      const random = new Random(seed);
      const seen = new Map<string, number>();
      for (let done = 0; done < CALLS / 2; ) {
        await m.run(async (task) => {
          const mm = task.mm as AddressSpace;
          const memory = await mm.mmap({ length: 0x10_0000 });
          const fds = await descriptors(m, task);
          for (let i = 0; i < 500; i++, done++) {
            const kind = random.u32() % fds.length;
            const fd = fds[kind];
            const request = randomRequest(random, kind);
            const arg =
              request === VFIO_SET_IOMMU || random.u32() % 8 === 0
                ? BigInt(EDGES[random.u32() % EDGES.length])
                : randomArgument(random, memory);
            try {
              const result = await task.ioctl(fd, request, arg);
              expect(result).toBeGreaterThanOrEqual(0);
              seen.set("success", (seen.get("success") ?? 0) + 1);
            } catch (error) {
              if (!isErrno(error) || ERRNO[error.code] !== error.errno) throw error;
              seen.set(error.code, (seen.get(error.code) ?? 0) + 1);
            }
          }
          await task.exit();
        });
      }
      // The checks were passed often enough to try what is behind them.
      expect(seen.get("success")).toBeGreaterThan(2000);
      for (const errno of ["EINVAL", "EFAULT", "ENOTTY", "EEXIST", "EBADF"]) expect(seen.get(errno)).toBeGreaterThan(0);
      await closeClean(m);
    },
  );
});
