/**
 * Virtual functions (PCIe 9): when software sets VF Enable, NumVFs functions appear at routing ids that follow from First VF
 * Offset and VF Stride. They have their own configuration space, BARs and ATS; PRI and PASID are the physical function's.
 */
import {
  type Device,
  type DevicePlugin,
  formatBdf,
  IommuError,
  type PciBar,
  type Platform,
  readField,
  SRIOV_CAPABILITY,
  writeField,
} from "@iommukit/core";
import { VF_BARS } from "./build-config.js";
import type { PciDevice } from "./pci-device.js";
import { virtualBarSize } from "./sriov-bars.js";

/** @param bdf where the VF is. @param index 1 … NumVFs */
export type MakeVirtualFunction = (bdf: string, index: number) => PciDevice;

/** The VFs of one physical function. */
export class VirtualFunctions {
  /** Every VF that has ever been enabled: it is the same one when it is enabled again. */
  readonly #made: PciDevice[] = [];
  #count = 0;

  /** @param bars of each VF */
  constructor(
    private readonly physical: PciDevice,
    bars: readonly PciBar[],
    private readonly make: MakeVirtualFunction,
  ) {
    const { config, capabilities } = physical;
    const at = capabilities.sriov;
    const enabled = () => SRIOV_CAPABILITY.VFEnable.get(config.words, at / 4) === 1;
    // NumVFs is locked while the VFs exist (9.3.3.5).
    config.guard(at + 0x10, () => (enabled() ? 0 : -1));
    config.onWrite(at + 8, () => this.update());
    for (const bar of bars) {
      const low = at + VF_BARS + 4 * bar.index;
      config.guard(low, () => -Math.min(virtualBarSize(physical, bar), 2 ** 31));
      for (const half of bar.kind === "mem64" ? [low, low + 4] : [low]) config.onWrite(half, () => this.#updateBars());
    }
  }

  /** The VFs that exist now. */
  get functions(): readonly PciDevice[] {
    return this.#made.slice(0, this.#count);
  }

  /** Follows VF Enable and VF Memory Space Enable. */
  update(): void {
    const { config, capabilities, present } = this.physical;
    const { VFEnable, NumVFs, TotalVFs } = SRIOV_CAPABILITY;
    const at = capabilities.sriov / 4;
    const enabled = present && VFEnable.get(config.words, at) === 1;
    const wanted = enabled ? Math.min(NumVFs.get(config.words, at), TotalVFs.get(config.words, at)) : 0;
    if (wanted !== this.#count) {
      for (const vf of this.functions) vf.remove();
      for (let n = this.#made.length; n < wanted; n++) this.#made.push(this.make(this.#bdf(n), n + 1));
      this.#count = wanted;
      for (const vf of this.functions) vf.appear();
    }
    this.#updateBars();
  }

  #updateBars(): void {
    for (const vf of this.functions) vf.updateBars();
  }

  #bdf(n: number): string {
    const { config, capabilities, segment, rid } = this.physical;
    const at = capabilities.sriov / 4;
    const first = SRIOV_CAPABILITY.FirstVFOffset.get(config.words, at);
    return formatBdf({ segment, rid: rid + first + n * SRIOV_CAPABILITY.VFStride.get(config.words, at) });
  }
}

/** A physical function with VFs. */
export interface PhysicalFunction extends PciDevice {
  readonly virtualFunctions: VirtualFunctions;
}

/**
 * pci_enable_sriov: makes `count` VFs and plugs them into the platform, all or none. Inside of the machine.
 * @throws IommuError EINVAL for more than TotalVFs, or when there are VFs already; and as the IOMMU driver refuses one
 */
export async function enableVirtualFunctions(
  platform: Platform,
  pf: PhysicalFunction,
  count: number,
): Promise<readonly Device[]> {
  const at = pf.capabilities.sriov;
  const total = readField(pf, at, SRIOV_CAPABILITY.TotalVFs);
  if (readField(pf, at, SRIOV_CAPABILITY.VFEnable) === 1) throw new IommuError("EINVAL", `${pf.bdf} has VFs already`);
  if (!(count >= 0 && count <= total))
    throw new IommuError("EINVAL", `${pf.bdf} has at most ${total} VFs, not ${count}`);
  writeField(pf, at, SRIOV_CAPABILITY.NumVFs, count);
  pf.writeConfig(at + 8, 2, VF_ENABLE | VF_MSE);
  const devices: Device[] = [];
  try {
    for (const vf of pf.virtualFunctions.functions) devices.push(...(await platform.plug(existing(vf))));
  } catch (error) {
    for (const { name } of devices.reverse()) await platform.unplug(name);
    pf.writeConfig(at + 8, 2, 0);
    throw error;
  }
  return devices;
}

/** pci_disable_sriov: takes the VFs off the platform, then away. */
export async function disableVirtualFunctions(platform: Platform, pf: PhysicalFunction): Promise<void> {
  for (const vf of [...pf.virtualFunctions.functions].reverse()) await platform.unplug(vf.bdf);
  pf.writeConfig(pf.capabilities.sriov + 8, 2, 0);
}

const VF_ENABLE = 1;
const VF_MSE = 8;

function existing(vf: PciDevice): DevicePlugin {
  return { name: `VF ${vf.bdf}`, segment: vf.segment, create: () => [vf] };
}
