import "reflect-metadata";

export type { Type1Info } from "./client/type1-info.js";
export {
  type BindTarget,
  type DmaMapping,
  type IovaSpan,
  type UserBitmap,
  VfioContainerClient as VfioContainer,
} from "./client/vfio-container.js";
export { VfioDeviceClient as VfioDevice } from "./client/vfio-device.js";
export { VfioGroupClient as VfioGroup } from "./client/vfio-group.js";
export { CONTAINER_PATH } from "./container.js";
export type { EmulatedDevice, EmulatedDriver } from "./emulated/emulated-device.js";
export { PROFILES, type Profile, type ProfileName, type SeedDefect } from "./profile.js";
export * from "./uapi/bind-structs.js";
export * from "./uapi/device-structs.js";
export * from "./uapi/ioctls.js";
export { decodeStruct, encodeStruct } from "./uapi/struct.js";
export * from "./uapi/type1-structs.js";
export { Vfio, type VfioParams } from "./vfio.js";
export { type VfioOptions, vfioOf, vfioType1 } from "./vfio-type1.js";
