/** A group's descriptor in a program. */
import type { Task } from "@iommukit/core";
import { GroupStatus } from "../uapi/device-structs.js";
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
} from "../uapi/ioctls.js";
import { decodeStruct, encodeStruct } from "../uapi/struct.js";
import { VfioDeviceClient } from "./vfio-device.js";

const O_RDWR = 2;

/** /dev/vfio/N in a program; `VfioContainer.attach` opens it. Methods throw IommuError with the errno of their ioctl. */
export class VfioGroupClient {
  private constructor(
    readonly task: Task,
    readonly fd: number,
    /** As in /dev/vfio: 3, "noiommu-3". */
    readonly id: number | string,
  ) {}

  static async open(task: Task, id: number | string): Promise<VfioGroupClient> {
    return new VfioGroupClient(task, await task.open(`/dev/vfio/${id}`, O_RDWR), id);
  }

  /** @returns GroupFlags */
  async status(): Promise<number> {
    const arg = encodeStruct(GroupStatus, { argsz: GroupStatus.bytes });
    await this.task.ioctl(this.fd, VFIO_GROUP_GET_STATUS, arg);
    return decodeStruct(GroupStatus, arg).flags;
  }

  async setContainer(containerFd: number): Promise<void> {
    const arg = new Uint8Array(4);
    new DataView(arg.buffer).setInt32(0, containerFd, true);
    await this.task.ioctl(this.fd, VFIO_GROUP_SET_CONTAINER, arg);
  }

  async unsetContainer(): Promise<void> {
    await this.task.ioctl(this.fd, VFIO_GROUP_UNSET_CONTAINER);
  }

  /** @param bdf "0000:01:00.0" */
  async device(bdf: string): Promise<VfioDeviceClient> {
    const name = Uint8Array.from(`${bdf}\0`, (character) => character.charCodeAt(0));
    return new VfioDeviceClient(this.task, await this.task.ioctl(this.fd, VFIO_GROUP_GET_DEVICE_FD, name));
  }

  close(): Promise<void> {
    return this.task.close(this.fd);
  }
}
