/** What can be made to go wrong under a program: `--inject NAME,…`. Hooks into a platform that is up. */
import { IommuError, KNOWN_VARIANTS, type PciFunction, type Platform } from "@iommukit/core";
import { CONTAINER_PATH, VFIO_IOMMU_UNBIND, VFIO_IOMMU_UNMAP_DMA } from "@iommukit/vfio-type1";
import { UsageError } from "../errors.js";

interface Injection {
  readonly says: string;
  apply(platform: Platform): void;
}

const RACE = 200_000;
const RARE = 10;

export const INJECTIONS: Readonly<Record<string, Injection>> = {
  "unmap-race": {
    says: "devices go on for 200 µs between UNMAP_DMA or UNBIND and its being carried out",
    apply: delayUnmaps,
  },
  "ats-timeout": {
    says: "no device answers invalidations of its translation cache",
    apply: (platform) => each(platform, ({ requester }) => Object.assign(requester, { invalidate: () => {} })),
  },
  "page-response-loss": {
    says: "every tenth answer to a page request is lost",
    apply: (platform) => each(platform, losePageResponses),
  },
  enomem: {
    says: "every tenth allocation for bonds and page requests fails",
    apply: ({ kernel }) => {
      let count = 0;
      kernel.allocationFails = () => ++count % RARE === 0;
    },
  },
  "surprise-removal": {
    says: "the devices are gone after their tenth DMA",
    apply: (platform) => {
      let count = 0;
      const gone = () => each(platform, (pci) => pci.remove?.());
      platform.trace.on("dma:completed", () => ++count === RARE && platform.scheduler.timer(0, gone));
    },
  },
};

/** Names of injections and of known variants, apart. @throws UsageError */
export function parseInjections(text: string): { readonly injections: string[]; readonly variants: string[] } {
  const names = text.split(",").filter((name) => name !== "");
  const unknown = names.find((name) => !Object.hasOwn(INJECTIONS, name) && !Object.hasOwn(KNOWN_VARIANTS, name));
  if (unknown !== undefined)
    throw new UsageError(
      `--inject: there is no "${unknown}"; there are ${Object.keys(INJECTIONS).join(", ")}, and the known bugs of drivers (S-1, L-1, …)`,
    );
  return {
    injections: names.filter((name) => Object.hasOwn(INJECTIONS, name)),
    variants: names.filter((name) => Object.hasOwn(KNOWN_VARIANTS, name)),
  };
}

function each(platform: Platform, change: (pci: PciFunction) => void): void {
  for (const { pci } of platform.devices.values()) change(pci);
}

function losePageResponses({ requester }: PciFunction): void {
  let count = 0;
  const deliver = requester.pageResponse.bind(requester);
  requester.pageResponse = (response) => {
    if (++count % RARE !== 0) deliver(response);
  };
}

function delayUnmaps({ kernel, scheduler }: Platform): void {
  const node = kernel.nodes.get(CONTAINER_PATH);
  if (!node) throw new IommuError("ENOENT", `the machine has no ${CONTAINER_PATH}`);
  kernel.nodes.set(CONTAINER_PATH, {
    path: CONTAINER_PATH,
    async open(task, flags) {
      const container = await node.open(task, flags);
      const ioctl = container.ioctl?.bind(container);
      container.ioctl = async (caller, request, argument) => {
        if (request === VFIO_IOMMU_UNMAP_DMA || request === VFIO_IOMMU_UNBIND) await scheduler.sleep(RACE);
        if (!ioctl) throw new IommuError("ENOTTY", "a container has ioctls");
        return ioctl(caller, request, argument);
      };
      return container;
    },
  });
}
