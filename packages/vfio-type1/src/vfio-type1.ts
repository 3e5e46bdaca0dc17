/** VFIO as a service plugin: device nodes, drivers bound, hot plug, leak check. */
import { IommuError, isErrno, type Platform, type ServicePlugin } from "@iommukit/core";
import { CONTAINER_PATH, containerNode } from "./container.js";
import { PROFILES, type ProfileName } from "./profile.js";
import { Vfio, type VfioParams } from "./vfio.js";

/** What a machine's VFIO is like. */
export interface VfioOptions {
  /** Which kernel's answers: "iommukit" (Linux 6.12 with BIND and UNBIND) when absent. */
  readonly profile?: ProfileName;
  /** Module parameters. */
  readonly params?: Partial<VfioParams>;
  /** The platform can add MSI-X vectors while others are in use: x86 can, Arm cannot. Default: yes. */
  readonly dynamicMsix?: boolean;
  /** Devices to bind to vfio-pci; every one that has no driver when absent. */
  readonly devices?: readonly string[];
}

/** The Vfio of a platform that has the plugin, for its parameters. */
export function vfioOf(platform: Platform): Vfio {
  return platform.resolve(Vfio);
}

/** For `createPlatform({ services: [vfioType1()] })`. @throws IommuError EINVAL no profile has that name */
export function vfioType1(options: VfioOptions = {}): ServicePlugin {
  const chosen = (platform: Platform, bdf: string) =>
    options.devices ? options.devices.includes(bdf) : platform.device(bdf).driver === undefined;
  const added = (platform: Platform, bdf: string) => {
    if (!chosen(platform, bdf)) return;
    try {
      vfioOf(platform).bind(platform.device(bdf));
    } catch (error) {
      if (!isErrno(error)) throw error;
      platform.kernel.printk(`vfio-pci ${bdf}: probe with driver vfio-pci failed with error -${error.errno}`);
    }
  };
  return {
    name: "vfio-type1",
    async install(platform) {
      const { profile = "iommukit" } = options;
      if (!Object.hasOwn(PROFILES, profile))
        throw new IommuError("EINVAL", `no profile "${profile}"; there are ${Object.keys(PROFILES).join(", ")}`);
      if (platform.kernel.nodes.has(CONTAINER_PATH))
        throw new IommuError("EEXIST", `there is a ${CONTAINER_PATH} already`);
      platform.container.registerSingleton(Vfio);
      const vfio = vfioOf(platform);
      vfio.profile = PROFILES[profile];
      vfio.dynamicMsix = options.dynamicMsix ?? true;
      Object.assign(vfio.params, options.params);
      platform.kernel.nodes.set(CONTAINER_PATH, containerNode(vfio));
      for (const bdf of platform.devices.keys()) added(platform, bdf);
    },
    async deviceAdded(platform, bdf) {
      added(platform, bdf);
    },
    async deviceRemoved(platform, bdf) {
      await vfioOf(platform).unbind(platform.device(bdf));
    },
    leaks: (platform) => vfioOf(platform).leaks(),
  };
}
