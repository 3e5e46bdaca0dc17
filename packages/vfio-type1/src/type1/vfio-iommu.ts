/** vfio_iommu: the address space of one container with a type1 IOMMU. State and locks; what the ioctls do stands beside it. */
import {
  type Aperture,
  type Groups,
  type IommuGroup,
  Mutex,
  PAGE_SIZE,
  type ReservedRegion,
  type Scheduler,
  type Sva,
  type Tracer,
  type Variants,
} from "@iommukit/core";
import type { Profile } from "../profile.js";
import { U64_MAX } from "../uapi/struct.js";
import type { DmaOwner } from "./dma.js";
import { DmaList } from "./dma-list.js";
import type { VfioDomain, VfioIommuGroup } from "./domain.js";
import { type IovaRange, usableRanges } from "./iova-ranges.js";
import type { SvaDevices } from "./sva-devices.js";
import type { VfioMm } from "./vfio-mm.js";

/** Module parameters of vfio_iommu_type1; they may change while containers are open. */
export interface Type1Params {
  /** Mappings that a new container may hold. */
  dmaEntryLimit: number;
  /** Attach groups whose interrupts the platform cannot isolate. */
  allowUnsafeInterrupts: boolean;
  disableHugepages: boolean;
}

/** What type1 needs from the platform. */
export interface Type1Environment {
  readonly profile: Profile;
  readonly params: Type1Params;
  /** Defects that are switched on one by one, besides those of the profile. */
  readonly variants: Variants;
  readonly scheduler: Scheduler;
  readonly trace: Tracer;
  readonly groups: Groups;
  readonly sva: Sva;
  readonly svaDevices: SvaDevices;
  printk(line: string): void;
}

const PAGE_MASK = U64_MAX & ~BigInt(PAGE_SIZE - 1);

/** An open device whose driver may pin pages. */
export interface Pinner {
  readonly name: string;
  /** dma_unmap: the range is about to go; whoever has pinned pages there unpins them before it returns (F17). */
  dmaUnmap(iova: bigint, size: bigint): Promise<void>;
}

export class VfioIommu {
  /** iommu->lock: everything below but `mms`. */
  readonly lock: Mutex;
  /** Guards `mms`. Never held while anything is awaited that mm_exit could need, so mm_exit may always take it. */
  readonly mmLock: Mutex;
  /** Newest first, as list_add puts them. */
  readonly domains: VfioDomain[] = [];
  /** emulated_iommu_groups: groups without DMA of their own; their drivers pin what they need. */
  readonly emulatedGroups = new Map<IommuGroup, VfioIommuGroup>();
  /** device_list: open devices whose drivers may pin pages. */
  readonly pinners = new Set<Pinner>();
  /** Held while drivers are told to unpin, and by whoever takes a device off the list. iommu->lock is taken inside of it. */
  readonly pinnersLock: Mutex;
  readonly dmas: DmaList;
  readonly mms: VfioMm[] = [];
  /** Who mapped last. */
  lastOwner: DmaOwner | undefined;
  /** Mappings that may still be made. */
  dmaAvail: number;
  /** Mappings whose vaddr is invalid. */
  vaddrInvalid = 0;
  dirtyTracking = false;
  pgsizeBitmap = PAGE_MASK;
  ranges: readonly IovaRange[] = [];

  constructor(
    readonly env: Type1Environment,
    readonly v2: boolean,
    readonly nesting: boolean,
  ) {
    this.lock = new Mutex(env.scheduler, env.trace, "iommu->lock");
    this.pinnersLock = new Mutex(env.scheduler, env.trace, "iommu->device_list_lock");
    this.mmLock = new Mutex(env.scheduler, env.trace, "iommu->mm_lock", "spin");
    this.dmas = new DmaList(env.profile.losesMappingsAtTop);
    this.dmaAvail = env.params.dmaEntryLimit;
  }

  get profile(): Profile {
    return this.env.profile;
  }

  has(defect: Profile["defects"][number]): boolean {
    return this.profile.defects.includes(defect) || this.env.variants.has(defect);
  }

  /** The smallest page that every domain takes. */
  get pgsize(): bigint {
    return this.pgsizeBitmap & -this.pgsizeBitmap;
  }

  findGroup(group: IommuGroup): { readonly domain: VfioDomain; readonly group: VfioIommuGroup } | undefined {
    for (const domain of this.domains) {
      const found = domain.groups.find(({ iommuGroup }) => iommuGroup === group);
      if (found) return { domain, group: found };
    }
    return undefined;
  }

  *allGroups(): Generator<VfioIommuGroup> {
    for (const domain of this.domains) yield* domain.groups;
  }

  /** Groups that processes are bound to: with domains, and those of mediated devices with a parent. */
  *svaGroups(): Generator<VfioIommuGroup> {
    yield* this.allGroups();
    for (const group of this.emulatedGroups.values()) if (group.devices.length > 0) yield group;
  }

  /** Page sizes and IOVA ranges after domains or groups have changed. Sizes below a page are hidden, and stand for one (F9). */
  refresh(): void {
    let sizes = U64_MAX;
    for (const { domain } of this.domains) sizes &= domain.pgsizeBitmap;
    if ((sizes & ~PAGE_MASK) !== 0n) sizes = (sizes & PAGE_MASK) | BigInt(PAGE_SIZE);
    this.pgsizeBitmap = sizes;
    // Without domains nothing limits a container any more, but it goes on saying so (vfio_iommu_aper_expand).
    if (this.domains.length > 0 || this.ranges.length > 0) this.ranges = this.rangesWith([], []);
  }

  /** The IOVA ranges with more apertures and reserved regions than its own groups have. */
  rangesWith(apertures: readonly Aperture[], reserved: readonly ReservedRegion[]): IovaRange[] {
    return usableRanges(
      [...this.domains.map(({ domain }) => domain.aperture), ...apertures],
      [...[...this.allGroups()].flatMap((group) => group.reserved), ...reserved],
    );
  }
}
