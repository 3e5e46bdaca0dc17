/**
 * /dev/vfio/vfio: a container, an address space that groups join (F3–F5). It lives as long as its descriptor or one of its
 * groups does; when the last group leaves, its IOMMU goes with every mapping. Groups without an IOMMU have containers of
 * their own, whose driver knows nothing but its name (vfio_noiommu_ops).
 */
import { type DeviceNode, type FileOps, IommuError, Mutex, type Task, type UserPointer } from "@iommukit/core";
import type { VfioGroup } from "./group.js";
import { attachEmulatedGroup, attachGroup, detachGroup, releaseIommu } from "./type1/attach.js";
import { type1Extension, type1Ioctl } from "./type1/type1-ioctl.js";
import { VfioIommu } from "./type1/vfio-iommu.js";
import {
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_SET_IOMMU,
  VfioExtension,
} from "./uapi/ioctls.js";
import type { Vfio } from "./vfio.js";

/** The container's node. */
export const CONTAINER_PATH = "/dev/vfio/vfio";

export function containerNode(vfio: Vfio): DeviceNode {
  return { path: CONTAINER_PATH, open: async () => new VfioContainer(vfio) };
}

export class VfioContainer implements FileOps {
  readonly name = CONTAINER_PATH;
  /** container->group_lock. */
  readonly #lock: Mutex;
  readonly #groups = new Set<VfioGroup>();
  #iommu: VfioIommu | undefined;
  /** SET_IOMMU chose vfio-noiommu. */
  #untranslated = false;
  #open = true;

  constructor(private readonly vfio: Vfio) {
    this.#lock = new Mutex(vfio.scheduler, vfio.trace, "container->group_lock");
    vfio.containers.add(this);
  }

  /** Set by SET_IOMMU; undefined before, and after the last group has left. */
  get iommu(): VfioIommu | undefined {
    return this.#iommu;
  }

  /** SET_IOMMU has succeeded, and a group is still here. */
  get ready(): boolean {
    return this.#iommu !== undefined || this.#untranslated;
  }

  /** container->noiommu. */
  get #noiommu(): boolean {
    return [...this.#groups].some(({ type }) => type === "noiommu");
  }

  async ioctl(task: Task, request: number, arg: UserPointer): Promise<number> {
    switch (request) {
      case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
      case VFIO_CHECK_EXTENSION:
        return this.#extension(arg.value);
      case VFIO_SET_IOMMU:
        return this.#lock.with(() => this.#setIommu(task, arg.value));
    }
    if (this.#untranslated) throw new IommuError("ENOTTY", `vfio-noiommu has no ioctl 0x${request.toString(16)}`);
    if (!this.#iommu)
      throw new IommuError(
        "EINVAL",
        `ioctl 0x${request.toString(16)} on a container without an IOMMU: SET_IOMMU first`,
      );
    return type1Ioctl(this.#iommu, this.vfio.kernel, task, request, arg);
  }

  /** Of the driver that is set, or else of all that may be. */
  #extension(extension: bigint): number {
    const noiommu =
      this.vfio.params.enableUnsafeNoiommuMode && extension === BigInt(VfioExtension.NOIOMMU_IOMMU) ? 1 : 0;
    if (this.#noiommu) return noiommu;
    const type1 = type1Extension(this.vfio.profile, extension, this.#iommu);
    return this.#groups.size === 0 ? type1 || noiommu : type1;
  }

  async #setIommu(task: Task, type: bigint): Promise<number> {
    if (this.#groups.size === 0) throw new IommuError("EINVAL", "the container has no group: SET_CONTAINER first");
    if (this.ready) throw new IommuError("EINVAL", "the container has an IOMMU already");
    if (this.#extension(type) <= 0) throw new IommuError("ENODEV", `no driver offers IOMMU type ${type}`);
    if (this.#noiommu) {
      if (!task.credentials.capabilities.has("CAP_SYS_RAWIO"))
        throw new IommuError("EPERM", "vfio-noiommu needs CAP_SYS_RAWIO");
      this.#untranslated = true;
      return 0;
    }
    const iommu = this.#createIommu(type);
    const attached: VfioGroup[] = [];
    try {
      // The newest first, as list_add puts them into group_list: which of two refusals wins is seen.
      for (const group of [...this.#groups].reverse()) {
        await attach(iommu, group);
        attached.push(group);
      }
    } catch (error) {
      for (const group of attached.reverse()) await detachGroup(iommu, group.iommuGroup);
      await releaseIommu(iommu);
      throw error;
    }
    this.#iommu = iommu;
    return 0;
  }

  /** vfio_iommu_type1_open. @throws IommuError EINVAL an extension that is no type */
  #createIommu(type: bigint): VfioIommu {
    switch (type) {
      case BigInt(VfioExtension.TYPE1_IOMMU):
        return new VfioIommu(this.vfio, false, false);
      case BigInt(VfioExtension.TYPE1_NESTING_IOMMU):
        return new VfioIommu(this.vfio, true, true);
      case BigInt(VfioExtension.TYPE1v2_IOMMU):
        return new VfioIommu(this.vfio, true, false);
      default:
        throw new IommuError("EINVAL", `${type} is an extension, not a type of IOMMU`);
    }
  }

  /** vfio_container_attach_group: the group's DMA becomes the container's. */
  async attach(group: VfioGroup): Promise<void> {
    await this.#lock.with(async () => {
      if (this.#groups.size > 0 && this.#noiommu !== (group.type === "noiommu"))
        throw new IommuError("EPERM", "groups with and without an IOMMU cannot share a container");
      await group.claimDma();
      try {
        if (this.#iommu) await attach(this.#iommu, group);
      } catch (error) {
        await group.releaseDma();
        throw error;
      }
      this.#groups.add(group);
    });
  }

  async detach(group: VfioGroup): Promise<void> {
    await this.#lock.with(async () => {
      if (this.#iommu) await detachGroup(this.#iommu, group.iommuGroup);
      await group.releaseDma();
      this.#groups.delete(group);
      if (this.#groups.size > 0) return;
      this.#untranslated = false;
      if (!this.#iommu) return;
      await releaseIommu(this.#iommu);
      this.#iommu = undefined;
    });
    this.#forget();
  }

  async release(): Promise<void> {
    this.#open = false;
    this.#forget();
  }

  #forget(): void {
    if (!this.#open && this.#groups.size === 0) this.vfio.containers.delete(this);
  }

  describe(): string {
    const groups = [...this.#groups].map(({ iommuGroup }) => iommuGroup.id);
    return `a container is ${this.#open ? "open" : "closed"} with groups [${groups.join(", ")}] and ${this.#iommu?.dmas.all().length ?? 0} mappings`;
  }
}

function attach(iommu: VfioIommu, { type, iommuGroup, parent }: VfioGroup): Promise<void> {
  return type === "emulated" ? attachEmulatedGroup(iommu, iommuGroup, parent) : attachGroup(iommu, iommuGroup);
}
