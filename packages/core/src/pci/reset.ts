/**
 * Resetting a function without losing its setup: pci_save_state, pci_restore_state, pcie_flr and pci_reset_function of
 * drivers/pci/pci.c (I12). While a reset runs, the caller has stopped all use of the device.
 */
import { IommuError } from "../kernel/errno.js";
import type { Scheduler } from "../kernel/scheduler.js";
import { TYPE0_HEADER, TYPE1_HEADER } from "./capabilities/header.js";
import { CapabilityId, ExtendedCapabilityId } from "./capabilities/ids.js";
import { PCI_EXPRESS_CAPABILITY } from "./capabilities/pci-express.js";
import { POWER_MANAGEMENT_CAPABILITY } from "./capabilities/power-management.js";
import { readField, writeField } from "./config-field.js";
import { findCapability, findExtendedCapability, type PciFunction } from "./pci-function.js";

const MS = 1_000_000;
/** A function is ready again this long after a function level reset (PCIe 6.6.2), and after leaving D3hot (5.9). */
const FLR_TIME = 100 * MS;
const D3HOT_TIME = 10 * MS;
/** How long Linux holds Secondary Bus Reset, and waits after it. */
const BUS_RESET_TIME = 2 * MS;
const BUS_READY_TIME = 1000 * MS;
/** Longest wait for a function that answers with retry. */
const READY_TIMEOUT = 60_000 * MS;

/** Registers by offset, as they were; written back in this order. */
export interface SavedPciState {
  readonly registers: readonly (readonly [offset: number, width: 2 | 4, value: number])[];
}

/** Saves what a driver or the firmware has set up. PASID, then PRI, then ATS: the order in which they must come back. */
export function pciSaveState(pci: PciFunction): SavedPciState {
  const registers: [number, 2 | 4, number][] = [];
  const save = (offset: number, width: 2 | 4) => registers.push([offset, width, pci.readConfig(offset, width)]);
  const pcie = findCapability(pci, CapabilityId.PCI_EXPRESS);
  if (pcie !== 0) for (const offset of [8, 0x28]) save(pcie + offset, 2);
  const at = (id: number) => (pci.physicalFunction ? 0 : findExtendedCapability(pci, id));
  const pasid = at(ExtendedCapabilityId.PASID);
  if (pasid !== 0) save(pasid + 6, 2);
  const pri = at(ExtendedCapabilityId.PRI);
  if (pri !== 0) {
    save(pri + 0xc, 4);
    save(pri + 4, 2);
  }
  const ats = findExtendedCapability(pci, ExtendedCapabilityId.ATS);
  if (ats !== 0) save(ats + 6, 2);
  const acs = findExtendedCapability(pci, ExtendedCapabilityId.ACS);
  if (acs !== 0) save(acs + 6, 2);
  for (let offset = 0x24; offset >= 0x10; offset -= 4) save(offset, 4);
  const msi = findCapability(pci, CapabilityId.MSI);
  if (msi !== 0) for (const offset of [4, 8, 12]) save(msi + offset, 4);
  if (msi !== 0) save(msi + 2, 2);
  const msix = findCapability(pci, CapabilityId.MSIX);
  if (msix !== 0) save(msix + 2, 2);
  save(0x3c, 2);
  save(4, 2);
  // Last: the VFs come back when everything else is set up.
  const sriov = at(ExtendedCapabilityId.SRIOV);
  if (sriov !== 0) {
    save(sriov + 0x20, 4);
    for (let offset = 0x24; offset < 0x3c; offset += 4) save(sriov + offset, 4);
    save(sriov + 0x10, 2);
    save(sriov + 8, 2);
  }
  return { registers };
}

/** Writes back what pciSaveState read. */
export function pciRestoreState(pci: PciFunction, state: SavedPciState): void {
  for (const [offset, width, value] of state.registers) pci.writeConfig(offset, width, value);
}

function hasFlr(pci: PciFunction): boolean {
  const at = findCapability(pci, CapabilityId.PCI_EXPRESS);
  return at !== 0 && readField(pci, at, PCI_EXPRESS_CAPABILITY.FunctionLevelResetCapability) === 1;
}

function hasPmReset(pci: PciFunction): boolean {
  const at = findCapability(pci, CapabilityId.POWER_MANAGEMENT);
  return at !== 0 && readField(pci, at, POWER_MANAGEMENT_CAPABILITY.NoSoftReset) === 0;
}

/** Resets the function by itself, or alone on its bus through the bridge; its registers are lost. */
export type PciResetMethod = "flr" | "pm" | "bus";

/** The ways in which Linux could reset the function, best first. @param alone nothing else is on its bus */
export function pciResetMethods(pci: PciFunction, alone: boolean): PciResetMethod[] {
  const methods: PciResetMethod[] = [];
  if (hasFlr(pci)) methods.push("flr");
  if (hasPmReset(pci)) methods.push("pm");
  if (alone && pci.upstream.length > 0) methods.push("bus");
  return methods;
}

/** What has to happen when the functions send nothing any more, and before they are reset. */
export type ResetPrepare = () => Promise<void>;

const NOTHING: ResetPrepare = async () => {};

/** pcie_flr: waits for pending transactions, resets, and waits until the function answers again. */
export async function pcieFlr(pci: PciFunction, scheduler: Scheduler, prepare = NOTHING): Promise<void> {
  const at = findCapability(pci, CapabilityId.PCI_EXPRESS);
  for (let wait = 0; wait < 4 && readField(pci, at, PCI_EXPRESS_CAPABILITY.TransactionsPending) === 1; wait++) {
    await scheduler.sleep(FLR_TIME << wait);
  }
  await prepare();
  writeField(pci, at, PCI_EXPRESS_CAPABILITY.InitiateFunctionLevelReset, 1);
  await scheduler.sleep(FLR_TIME);
  await waitReady(pci, scheduler);
}

async function pmReset(pci: PciFunction, scheduler: Scheduler, prepare: ResetPrepare): Promise<void> {
  const at = findCapability(pci, CapabilityId.POWER_MANAGEMENT);
  await prepare();
  writeField(pci, at, POWER_MANAGEMENT_CAPABILITY.PowerState, 3);
  await scheduler.sleep(D3HOT_TIME);
  writeField(pci, at, POWER_MANAGEMENT_CAPABILITY.PowerState, 0);
  await scheduler.sleep(D3HOT_TIME);
  await waitReady(pci, scheduler);
}

/** pci_reset_secondary_bus. */
async function resetBehind(bridge: PciFunction, scheduler: Scheduler): Promise<void> {
  writeField(bridge, 0, TYPE1_HEADER.SecondaryBusReset, 1);
  await scheduler.sleep(BUS_RESET_TIME);
  writeField(bridge, 0, TYPE1_HEADER.SecondaryBusReset, 0);
  await scheduler.sleep(BUS_READY_TIME);
}

/** Looks at the Command register, as a VF's ids read as all ones. @throws IommuError ETIMEDOUT when it does not answer; ENODEV when it is gone */
async function waitReady(pci: PciFunction, scheduler: Scheduler): Promise<void> {
  for (let waited = 0, step = MS; pci.readConfig(4, 4) === 0xffff_ffff; waited += step, step *= 2) {
    if (!pci.present) throw new IommuError("ENODEV", `${pci.bdf} is gone`);
    if (waited > READY_TIMEOUT)
      throw new IommuError("ETIMEDOUT", `${pci.bdf} is not ready ${waited / MS} ms after reset`);
    await scheduler.sleep(step);
  }
}

/**
 * pci_reset_function: saves, resets, restores. The PASID is stopped, the translations are gone, page requests under way
 * are forgotten; PASID, PRI and ATS are enabled again as they were.
 * @param alone nothing else is on its bus, so that a bus reset hits nobody else
 * @throws IommuError ENOTTY when the function cannot be reset by itself; ETIMEDOUT, ENODEV
 */
export async function pciResetFunction(
  pci: PciFunction,
  scheduler: Scheduler,
  alone = false,
  prepare = NOTHING,
): Promise<void> {
  const [method] = pciResetMethods(pci, alone);
  if (method === undefined)
    throw new IommuError("ENOTTY", `${pci.bdf} has neither FLR nor PM reset, and shares its bus`);
  // Alone behind its bridge: the same as a reset of the bus.
  if (method === "bus") return pciResetBus(pci.upstream[0], [pci], scheduler, prepare);
  const state = saveAndDisable(pci);
  const reset = method === "flr" ? pcieFlr : pmReset;
  await reset(pci, scheduler, prepare);
  pciRestoreState(pci, state);
}

/**
 * pci_reset_bus: every function behind the bridge goes through a hot reset, and gets its setup back.
 * @param functions all of them, endpoints
 * @throws IommuError ETIMEDOUT, ENODEV
 */
export async function pciResetBus(
  bridge: PciFunction,
  functions: readonly PciFunction[],
  scheduler: Scheduler,
  prepare = NOTHING,
): Promise<void> {
  // VFs last: they are there again when their physical function has its SR-IOV capability back.
  const physicalFirst = functions.toSorted((a, b) => Number(isVirtual(a)) - Number(isVirtual(b)));
  const saved = physicalFirst.map((pci) => [pci, saveAndDisable(pci)] as const);
  await prepare();
  await resetBehind(bridge, scheduler);
  for (const [pci, state] of saved) {
    await waitReady(pci, scheduler);
    pciRestoreState(pci, state);
  }
}

function isVirtual({ physicalFunction }: PciFunction): boolean {
  return physicalFunction !== undefined;
}

/** pci_dev_save_and_disable: nothing is sent while it is reset, no interrupts, no memory requests. */
function saveAndDisable(pci: PciFunction): SavedPciState {
  const state = pciSaveState(pci);
  pci.writeConfig(4, 2, 1 << TYPE0_HEADER.InterruptDisable.shift);
  return state;
}
