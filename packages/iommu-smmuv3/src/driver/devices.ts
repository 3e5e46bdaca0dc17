/** Devices come and go: what the driver enables of a function before it is in any domain, and takes back when it leaves. */
import {
  type Device,
  isErrno,
  pciAtsSupported,
  pciDisablePasid,
  pciEnablePasid,
  pciMaxPasids,
  pciPasidFeatures,
  pciPrepareAts,
  pciPrgRespPasidRequired,
} from "@iommukit/core";
import { LINEAR_CD_BITS } from "./cd-table.js";
import type { DriverContext } from "./driver-context.js";
import { Master, masterOf } from "./master.js";
import { smallestPageShift } from "./probe.js";
import type { Streams } from "./streams.js";
import type { Unit } from "./unit.js";

/** arm_smmu_probe_device. @throws IommuError ERANGE a StreamID beyond the stream table, EBUSY somebody else's, ENOMEM */
export async function addDevice(dev: Device, context: DriverContext, unit: Unit, streams: Streams): Promise<void> {
  const { features, streamTable } = unit;
  const { pci } = dev;
  streamTable.ste(dev.rid);
  const canStall = features.stalls && (context.options.canStall?.(dev.name) ?? false);
  const master = new Master(dev, canStall || features.stallForce, pciPrgRespPasidRequired(pci));
  await streams.add(master);
  dev.iommuPriv = master;
  master.ssidBits = enablePasid(dev, unit);
  if (pciAtsSupported(pci)) pciPrepareAts(pci, smallestPageShift(features));
  context.sva.registerQueueFlush(dev, () => unit.flushQueues());
}

/**
 * Before ATS is enabled: it must not change afterwards (I4). A function without PASID still does DMA.
 * @returns bits of PASID that the function and the SMMU share
 */
function enablePasid({ pci }: Device, { features: { ssidBits, twoLevelCdTable } }: Unit): number {
  if (ssidBits === 0) return 0;
  try {
    pciEnablePasid(pci, pciPasidFeatures(pci));
  } catch (error) {
    if (!isErrno(error)) throw error;
    return 0;
  }
  const bits = Math.min(ssidBits, Math.log2(pciMaxPasids(pci)));
  return twoLevelCdTable ? bits : Math.min(bits, LINEAR_CD_BITS);
}

/** arm_smmu_release_device. Bonds, page requests and translations go first; the stream aborts from then on. */
export async function removeDevice(dev: Device, context: DriverContext, unit: Unit, streams: Streams): Promise<void> {
  const master = masterOf(dev);
  await context.sva.unbindDeviceAll(dev);
  unit.sva.deviceShutdown(dev);
  await unit.attachment.detach(master);
  pciDisablePasid(dev.pci);
  await unit.flushQueues();
  await streams.remove(master);
  master.cdTable?.free();
  dev.iommuPriv = undefined;
}
