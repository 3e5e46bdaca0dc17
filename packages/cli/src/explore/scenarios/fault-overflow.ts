import { Access, hi32, lo32, WaitQueue } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import type { WantedPage } from "@iommukit/pci-device";
import type { BackendName } from "../backends.js";
import { BDF, container, type DmaMachine, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

/** Index of the group that stays open. */
const OPEN = 0x1f0;
/** Groups that follow, of so many requests: more than an SMMU's queue of eight, or VT-d's of one page (L-16). */
const FLOOD = { smmuv3: { groups: 4, requests: 3 }, vtd: { groups: 7, requests: 20 } } as const;

/**
 * A device opens a group that it never closes, and then asks for more than the queue holds: what was open is forgotten when the
 * queue overflows (E12), and every later group is answered, with its PASID.
 */
export const faultOverflow: ScenarioDefinition = scenario({
  name: "fault-overflow",
  summary: "page requests overflow the queue while a group is open",
  finds: { "S-12": ["smmuv3"], "S-14": ["smmuv3"], "L-15+L-16": ["vtd"] },
  // Hundreds of threads that are taken away one after the other.
  timeLimit: 10e9,
  async boot(backend, options) {
    const iommu = backend === "vtd" ? vtd() : smmuv3({ queueShift: 3 });
    const devices = [{ bdf: BDF, function: { pri: { capacity: 4096 } } }];
    return { ...(await vfioMachine(backend, options, { iommu, devices })), backend };
  },
  async prepare({ backend, ...m }) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    const pasid = await vfio.bind();
    const at = await app.memory.mmap({ length: 4096 });
    let dropped = 0;
    const stop = m.platform.trace.on("pri:dropped", () => dropped++);
    let kept = 0;
    return {
      actors: {
        device: async () => {
          openGroup(m, pasid, at);
          await flood(m, backend, pasid, at);
        },
      },
      async settle() {
        stop();
        if (dropped > 0) kept = m.platform.sva.inUse().partials;
        await app.task.exit();
      },
      check: () => (kept === 0 ? [] : [`the queue has overflowed, and ${kept} requests of an open group are kept`]),
    };
  },
});

function openGroup({ platform, device }: DmaMachine, pasid: number, address: bigint): void {
  const [hi, lo] = [Number(address >> 32n), Number(address & 0xffff_ffffn) | 0];
  const asks = { read: true, write: false, execute: false, privileged: false };
  platform.iommus[0].chip.pageRequest({ rid: device.rid, pasid, hi, lo, prgi: OPEN, last: false, ...asks });
}

/** Each group from a thread of its own, whatever the credits: all are on their way before the driver hears of the first. */
async function flood(
  { platform, device, dma }: DmaMachine,
  backend: BackendName,
  pasid: number,
  address: bigint,
): Promise<void> {
  const { scheduler } = platform;
  const answered = new WaitQueue(scheduler, "flood");
  const { groups, requests } = FLOOD[backend];
  const page = { hi: hi32(address), lo: lo32(address), access: Access.READ };
  const pages = new Array<WantedPage>(requests).fill(page);
  let left: number = groups;
  if (dma.pri) dma.pri.allocation = groups * requests;
  for (let i = 0; i < groups; i++)
    scheduler.spawn(`group ${i}`, async () => {
      await dma.pri?.request(device.rid, pasid, pages);
      left--;
      answered.wakeAll();
    });
  await answered.wait(() => left === 0);
}
