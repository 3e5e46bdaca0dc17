/** /dev/vfio/<id>: a group of devices that can only be assigned together (F5–F7). One opener at a time. */
import {
  type Device,
  type DeviceNode,
  type FileOps,
  hex,
  IommuError,
  type IommuGroup,
  Mutex,
  O,
  OpenFile,
  type Task,
  type UserPointer,
} from "@iommukit/core";
import { VfioContainer } from "./container.js";
import { nameMatches } from "./device/device-name.js";
import { VfioDevice } from "./device/vfio-device.js";
import { EmulatedDevice, type EmulatedDriver } from "./emulated/emulated-device.js";
import { refuseDirect } from "./type1/direct-mapping.js";
import { GroupFlags, GroupStatus } from "./uapi/device-structs.js";
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
} from "./uapi/ioctls.js";
import { decodeStruct, encodeStruct } from "./uapi/struct.js";
import type { Vfio } from "./vfio.js";
import { VFIO_PCI } from "./vfio-pci.js";

/** Drivers that do no DMA and may stay in a group that is assigned. */
const HARMLESS_DRIVERS: ReadonlySet<string> = new Set([VFIO_PCI, "pci-stub", "pcieport"]);

const PAGE = 4096;

/** vfio_group_type: what stands in front of its devices. */
export type GroupType = "iommu" | "emulated" | "noiommu";

/** What a group's descriptor hands out. */
interface GroupDevice {
  readonly name: string;
  readonly opened: boolean;
  /** Under the group's lock; the group is in a container with an IOMMU. */
  open(): Promise<FileOps>;
}

/** A group's open file. */
export interface GroupFile extends FileOps {
  readonly group: VfioGroup;
}

export class VfioGroup implements DeviceNode {
  readonly path: string;
  /** group->group_lock: container, users, device list. */
  readonly lock: Mutex;
  readonly #devices = new Map<Device, VfioDevice>();
  /** The one device of a group that exists for it: no IOMMU stands in front of it. */
  #emulated: EmulatedDevice | undefined;
  #container: VfioContainer | undefined;
  /** The open file, and every device that is open: the group is let go when all are closed. */
  #users = 0;

  constructor(
    readonly vfio: Vfio,
    readonly iommuGroup: IommuGroup,
    readonly type: GroupType = "iommu",
  ) {
    this.path = `/dev/vfio/${type === "noiommu" ? "noiommu-" : ""}${iommuGroup.id}`;
    this.lock = new Mutex(vfio.scheduler, vfio.trace, `vfio group ${iommuGroup.id}->group_lock`);
  }

  get container(): VfioContainer | undefined {
    return this.#container;
  }

  addEmulated(name: string, driver: EmulatedDriver, parent?: Device): EmulatedDevice {
    this.#emulated = new EmulatedDevice(this, name, driver, parent);
    return this.#emulated;
  }

  get emulated(): EmulatedDevice | undefined {
    return this.#emulated;
  }

  /** The device that a mediated one borrows PASIDs from. */
  get parent(): Device | undefined {
    return this.#emulated?.parent;
  }

  get busy(): boolean {
    return this.#users > 0;
  }

  /** @throws IommuError EACCES the node is root's; EPERM without an IOMMU and CAP_SYS_RAWIO; EBUSY somebody has it open */
  async open(task: Task): Promise<GroupFile> {
    if (task.credentials.euid !== 0) throw new IommuError("EACCES", `${this.path} belongs to root`);
    this.#mayUse(task);
    if (this.busy) throw new IommuError("EBUSY", `${this.path} is open already`);
    this.#users = 1;
    return {
      name: this.path,
      group: this,
      ioctl: (caller, request, arg) => this.#ioctl(caller, request, arg),
      release: () => this.put(),
    };
  }

  /** Without an IOMMU a device reaches all memory: only who may do so anyway gets it. */
  #mayUse({ credentials }: Task): void {
    if (this.type === "noiommu" && !credentials.capabilities.has("CAP_SYS_RAWIO"))
      throw new IommuError("EPERM", `${this.path} needs CAP_SYS_RAWIO: its devices reach all memory`);
  }

  /** A device is opened: the group stays open, and in its container, until the device is closed. */
  get(): void {
    this.#users++;
  }

  async put(): Promise<void> {
    if (--this.#users > 0) return;
    await this.lock.with(() => this.#leaveContainer());
  }

  async #leaveContainer(): Promise<void> {
    const container = this.#container;
    this.#container = undefined;
    await container?.detach(this);
  }

  async #ioctl(task: Task, request: number, arg: UserPointer): Promise<number> {
    switch (request) {
      case VFIO_GROUP_GET_STATUS:
        return this.#getStatus(arg);
      case VFIO_GROUP_SET_CONTAINER:
        return this.#setContainer(task, arg);
      case VFIO_GROUP_UNSET_CONTAINER:
        return this.lock.with(() => this.#unsetContainer());
      case VFIO_GROUP_GET_DEVICE_FD:
        return this.#getDeviceFd(task, arg);
      default:
        throw new IommuError("ENOTTY", `a group has no ioctl ${hex(request)}`);
    }
  }

  async #getStatus(arg: UserPointer): Promise<number> {
    const { argsz } = decodeStruct(GroupStatus, await arg.copyFrom(GroupStatus.bytes));
    if (argsz < GroupStatus.bytes) throw new IommuError("EINVAL", `argsz ${argsz} is less than ${GroupStatus.bytes}`);
    const contained = this.#container !== undefined;
    const viable = contained || this.#obstacle() === undefined;
    const flags = (viable ? GroupFlags.VIABLE : 0) | (contained ? GroupFlags.CONTAINER_SET : 0);
    await arg.copyTo(encodeStruct(GroupStatus, { argsz, flags }));
    return 0;
  }

  /** The device that another driver uses for DMA; a group with one is not viable (F7). */
  #obstacle(): Device | undefined {
    return this.iommuGroup.devices.find(({ driver }) => driver !== undefined && !HARMLESS_DRIVERS.has(driver));
  }

  async #setContainer(task: Task, arg: UserPointer): Promise<number> {
    const bytes = await arg.copyFrom(4);
    const fd = new DataView(bytes.buffer).getInt32(0, true);
    // The container stays open for the call.
    await task.fds.get(fd).use((ops) => this.lock.with(() => this.#joinContainer(task, fd, ops)));
    return 0;
  }

  async #joinContainer(task: Task, fd: number, ops: FileOps): Promise<void> {
    if (this.#container) throw new IommuError("EINVAL", `group ${this.iommuGroup.id} has a container already`);
    if (!(ops instanceof VfioContainer))
      throw new IommuError(this.vfio.profile.notContainerErrno, `descriptor ${fd} is ${ops.name}, not a container`);
    this.#mayUse(task);
    await ops.attach(this);
    this.#container = ops;
  }

  /** iommu_group_claim_dma_owner. @throws IommuError EPERM a kernel driver does DMA in the group; EINVAL a device needs memory mapped one to one */
  async claimDma(): Promise<void> {
    if (this.type !== "iommu") return;
    const obstacle = this.#obstacle();
    if (obstacle)
      throw new IommuError(
        "EPERM",
        `group ${this.iommuGroup.id} is not viable: ${obstacle.name} is bound to ${obstacle.driver}`,
      );
    refuseDirect("claim", this.iommuGroup.devices, this.vfio);
    await this.vfio.groups.claimDmaOwner(this.iommuGroup, this);
  }

  async releaseDma(): Promise<void> {
    if (this.type === "iommu") await this.vfio.groups.releaseDmaOwner(this.iommuGroup);
  }

  async #unsetContainer(): Promise<number> {
    if (!this.#container) throw new IommuError("EINVAL", `group ${this.iommuGroup.id} has no container`);
    const devices: GroupDevice[] = [...this.#devices.values(), ...(this.#emulated ? [this.#emulated] : [])];
    const open = devices.filter(({ opened }) => opened);
    if (open.length > 0)
      throw new IommuError(
        "EBUSY",
        `${open.map(({ name }) => name).join(", ")} in group ${this.iommuGroup.id} is open`,
      );
    await this.#leaveContainer();
    return 0;
  }

  async #getDeviceFd(task: Task, arg: UserPointer): Promise<number> {
    const name = await userString(arg);
    const device = this.#find(name);
    if (!device)
      throw new IommuError("ENODEV", `group ${this.iommuGroup.id} has no device "${name}" bound to ${VFIO_PCI}`);
    const file = await this.lock.with(() => {
      if (!this.#container?.ready)
        throw new IommuError("EINVAL", `group ${this.iommuGroup.id} is in no container with an IOMMU`);
      this.#mayUse(task);
      return device.open();
    });
    if (this.type === "noiommu")
      this.vfio.printk(`vfio-pci ${name}: vfio-noiommu device opened by user (${task.name}:${task.pid})`);
    return task.install(new OpenFile(file, O.RDWR | O.CLOEXEC));
  }

  /** @throws IommuError EINVAL what stands behind the name of a PCI device */
  #find(name: string): GroupDevice | undefined {
    if (this.#emulated?.name === name) return this.#emulated;
    const device = this.iommuGroup.devices.find((each) => each.driver === VFIO_PCI && nameMatches(each.pci, name));
    return device && this.#vfioDevice(device);
  }

  /** What stands for the device since somebody opened it. */
  everOpened(device: Device): VfioDevice | undefined {
    return this.#devices.get(device);
  }

  #vfioDevice(device: Device): VfioDevice {
    let vfioDevice = this.#devices.get(device);
    if (!vfioDevice) {
      vfioDevice = new VfioDevice(this, device);
      this.#devices.set(device, vfioDevice);
    }
    return vfioDevice;
  }

  /** The device is about to go: asks its user to close it, and waits. Without devices, the group leaves its container. */
  async removeDevice(device: Device): Promise<void> {
    await this.#devices.get(device)?.remove();
    this.#devices.delete(device);
    const others = this.iommuGroup.devices.some((other) => other !== device && other.driver === VFIO_PCI);
    if (!others) await this.lock.with(() => this.#leaveContainer());
  }
}

/** strndup_user: up to a page, ended by a zero byte. @throws IommuError EFAULT, EINVAL without an end */
async function userString(arg: UserPointer): Promise<string> {
  let text = "";
  for (let at = 0; at < PAGE; at++) {
    const [byte] = await arg.copyFrom(1, at);
    if (byte === 0) return text;
    text += String.fromCharCode(byte);
  }
  throw new IommuError("EINVAL", `a name of more than ${PAGE} bytes`);
}
