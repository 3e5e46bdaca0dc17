/**
 * Where the BARs of VFs are (PCIe 9.2.1.1.1): VF n's at n sizes behind the address in the physical function's VF BAR, each as
 * large as a page of the system at least. VF MSE enables them all.
 */
import { PAGE_SIZE, type PciBar, SRIOV_CAPABILITY } from "@iommukit/core";
import { barAddress } from "./bar-decoder.js";
import { VF_BARS } from "./build-config.js";
import type { MmioWindow } from "./mmio-window.js";
import type { PciDevice } from "./pci-device.js";

const { FirstVFOffset, SystemPageSize, TotalVFs, VFEnable, VFMSE, VFStride } = SRIOV_CAPABILITY;

/** Distance of the BARs of two VFs. */
export function virtualBarSize({ config, capabilities }: PciDevice, { size }: PciBar): number {
  return Math.max(size, PAGE_SIZE * SystemPageSize.get(config.words, capabilities.sriov / 4));
}

export function virtualMemoryEnabled({ config, capabilities }: PciDevice): boolean {
  const at = capabilities.sriov / 4;
  return VFEnable.get(config.words, at) === 1 && VFMSE.get(config.words, at) === 1;
}

/** @param rid the VF's. @returns 0 when the VF BAR has not been placed */
export function virtualBarAddress(physical: PciDevice, rid: number, bar: PciBar): number {
  const { config, capabilities } = physical;
  const at = capabilities.sriov / 4;
  const base = barAddress(config.words, (capabilities.sriov + VF_BARS) / 4 + bar.index, bar);
  const distance = rid - physical.rid - FirstVFOffset.get(config.words, at);
  const index = distance === 0 ? 0 : distance / VFStride.get(config.words, at);
  return base === 0 ? 0 : base + index * virtualBarSize(physical, bar);
}

/** Firmware's part. @param bars of each VF */
export function placeVirtualBars(physical: PciDevice, bars: readonly PciBar[], window: MmioWindow): void {
  const { config, capabilities } = physical;
  const all = 2 ** Math.ceil(Math.log2(TotalVFs.get(config.words, capabilities.sriov / 4)));
  for (const bar of bars) {
    const address = window.allocate({ ...bar, size: all * virtualBarSize(physical, bar) });
    const at = capabilities.sriov + VF_BARS + 4 * bar.index;
    physical.writeConfig(at, 4, address % 2 ** 32);
    if (bar.kind === "mem64") physical.writeConfig(at + 4, 4, Math.floor(address / 2 ** 32));
  }
}
