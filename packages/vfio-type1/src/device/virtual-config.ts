/**
 * Configuration space as a program sees it through VFIO: the device's bits and VFIO's copy, mixed by the permission map.
 * Bytes that belong to no structure go through as they are.
 */
import {
  CapabilityId,
  ExtendedCapabilityId,
  findExtendedCapability,
  MSI64_MASKED_CAPABILITY,
  PCI_EXPRESS_CAPABILITY,
  type PciFunction,
  readField,
  SRIOV_CAPABILITY,
  TYPE0_HEADER,
} from "@iommukit/core";
import {
  CAPABILITY_PERMISSIONS,
  HEADER_PERMISSIONS,
  type Permissions,
  VF_HEADER_PERMISSIONS,
} from "./config-permissions.js";
import { structuresOf } from "./config-structures.js";
import type { Resource } from "./resources.js";

/** What writes to some bits make VFIO do. */
export interface ConfigActions {
  /** The virtual Interrupt Disable bit has changed. */
  intxDisabled(disabled: boolean): void;
  /** Whether VFIO has MSI enabled: the program cannot do it by writing. */
  msiEnabled(): boolean;
  /** Runs `write`, which turns memory space off, when nobody has a BAR mapped any more. */
  memoryDisabled(write: () => void): Promise<void>;
  /** Resets the function, keeping its setup. */
  functionLevelReset(): Promise<void>;
}

const COMMAND_WORD = TYPE0_HEADER.IOSpaceEnable.word;
const FIRST_BAR_WORD = TYPE0_HEADER.BAR0.word;
const ROM_WORD = TYPE0_HEADER.ExpansionROMBaseAddress.word;

interface Mapped {
  readonly id: number;
  /** First dword of the structure. */
  readonly word: number;
  readonly permissions: Permissions | undefined;
}

export class VirtualConfig {
  /** VFIO's copy. */
  readonly #words: Int32Array;
  /** Which structure each dword belongs to; undefined: to none. */
  readonly #map: (Mapped | undefined)[];

  constructor(
    private readonly pci: PciFunction,
    private readonly resources: ReadonlyMap<number, Resource>,
    private readonly actions: ConfigActions,
  ) {
    this.#words = new Int32Array(pci.configSize / 4);
    this.#map = new Array(pci.configSize / 4).fill(undefined);
    for (let word = 0; word < this.#words.length; word++) this.#words[word] = pci.readConfig(word * 4, 4) | 0;
    const { physicalFunction } = pci;
    if (physicalFunction) this.#identify(physicalFunction);
    const header = { id: -1, word: 0, permissions: physicalFunction ? VF_HEADER_PERMISSIONS : HEADER_PERMISSIONS };
    this.#map.fill(header, 0, 16);
    for (const { id, extended, start, bytes } of structuresOf(pci)) {
      const permissions = extended ? undefined : CAPABILITY_PERMISSIONS.get(id);
      this.#map.fill(
        { id: extended ? -1 : id, word: start / 4, permissions },
        start / 4,
        Math.ceil((start + bytes) / 4),
      );
    }
  }

  /** A VF has no ids of its own and no Memory Space Enable; the program sees both (vfio_config_init). */
  #identify(physical: PciFunction): void {
    const { VendorID, DeviceID, MemorySpaceEnable } = TYPE0_HEADER;
    const at = findExtendedCapability(physical, ExtendedCapabilityId.SRIOV);
    VendorID.set(this.#words, 0, readField(physical, 0, VendorID));
    DeviceID.set(this.#words, 0, readField(physical, at, at === 0 ? DeviceID : SRIOV_CAPABILITY.VFDeviceID));
    MemorySpaceEnable.set(this.#words, 0, 1);
  }

  get size(): number {
    return this.pci.configSize;
  }

  #masks(word: number): { readonly virt: number; readonly write: number } {
    const mapped = this.#map[word];
    if (!mapped) return { virt: 0, write: -1 };
    const { permissions } = mapped;
    if (!permissions || word - mapped.word >= permissions.virt.length) return { virt: 0, write: 0 };
    const at = word - mapped.word;
    // The short forms of MSI have what follows the address elsewhere.
    if (mapped.id === CapabilityId.MSI && at >= 2) return this.#msiMasks(mapped.word, at);
    return { virt: permissions.virt[at], write: permissions.write[at] };
  }

  #msiMasks(start: number, at: number): { readonly virt: number; readonly write: number } {
    const wide = MSI64_MASKED_CAPABILITY.AddressCapable64Bit.get(this.#words, start) === 1;
    const { virt, write } = CAPABILITY_PERMISSIONS.get(CapabilityId.MSI) as Permissions;
    const from = wide ? at : at + 1;
    return { virt: virt[from] ?? 0, write: write[from] ?? 0 };
  }

  /** One naturally aligned access of 1, 2 or 4 bytes. */
  read(offset: number, width: 1 | 2 | 4): number {
    const word = offset >> 2;
    if (word >= FIRST_BAR_WORD && word < FIRST_BAR_WORD + 6) this.#fixBars();
    if (word === ROM_WORD) this.#fixRom();
    const { virt } = this.#masks(word);
    const shift = 8 * (offset & 3);
    const lane = width === 4 ? -1 : (1 << (8 * width)) - 1;
    const mask = (virt >>> shift) & lane;
    const own = (this.#words[word] >>> shift) & mask;
    // A structure that is virtual as a whole does not touch the device.
    const real = mask === lane ? 0 : this.pci.readConfig(offset, width) & ~mask;
    return ((own | real) & lane) >>> 0;
  }

  async write(offset: number, width: 1 | 2 | 4, value: number): Promise<void> {
    const word = offset >> 2;
    const shift = 8 * (offset & 3);
    const lane = width === 4 ? -1 : (1 << (8 * width)) - 1;
    const { virt, write } = this.#masks(word);
    const bits = (value & lane) << shift;
    const lanes = lane << shift;
    const before = this.#words[word];
    const disablesMemory = this.#disablesMemory(word, bits, lanes);
    this.#words[word] = (before & ~(virt & write & lanes)) | (bits & virt & write & lanes);
    const toDevice = () => this.#toDevice(offset, width, bits, lanes & write & ~virt, shift);
    if (disablesMemory) await this.actions.memoryDisabled(toDevice);
    else toDevice();
    await this.#sideEffects(word, before, lanes);
  }

  #disablesMemory(word: number, bits: number, lanes: number): boolean {
    const enable = TYPE0_HEADER.MemorySpaceEnable.lowMask;
    return word === COMMAND_WORD && (lanes & enable) !== 0 && (bits & enable) === 0 && this.#showsMemory;
  }

  /** Bits that the program may not write keep what the device shows. */
  #toDevice(offset: number, width: 1 | 2 | 4, bits: number, allowed: number, shift: number): void {
    if (allowed === 0) return;
    const lane = width === 4 ? -1 : (1 << (8 * width)) - 1;
    const old = this.pci.readConfig(offset, width) << shift;
    const merged = (old & ~allowed) | (bits & allowed);
    this.pci.writeConfig(offset, width, ((merged >>> shift) & lane) >>> 0);
  }

  async #sideEffects(word: number, before: number, lanes: number): Promise<void> {
    const mapped = this.#map[word];
    if (word === COMMAND_WORD) {
      const disable = TYPE0_HEADER.InterruptDisable.lowMask;
      if (((before ^ this.#words[word]) & disable) !== 0)
        this.actions.intxDisabled((this.#words[word] & disable) !== 0);
      return;
    }
    if (mapped?.id === CapabilityId.MSI && word === mapped.word) this.#msiControl(mapped.word, lanes);
    if (mapped?.id === CapabilityId.PCI_EXPRESS) await this.#resetIfAsked(mapped.word, word);
  }

  /** The program may choose how many vectors, not whether they are on: that is SET_IRQS. */
  #msiControl(start: number, lanes: number): void {
    const { MSIEnable, MultipleMessageEnable, MultipleMessageCapable } = MSI64_MASKED_CAPABILITY;
    if ((lanes & MSIEnable.lowMask) === 0) return;
    if (!this.actions.msiEnabled()) MSIEnable.set(this.#words, start, 0);
    const most = MultipleMessageCapable.get(this.#words, start);
    if (MultipleMessageEnable.get(this.#words, start) > most) MultipleMessageEnable.set(this.#words, start, most);
    this.pci.writeConfig(start * 4 + 2, 2, this.#words[start] >>> 16);
  }

  async #resetIfAsked(start: number, word: number): Promise<void> {
    const { InitiateFunctionLevelReset, FunctionLevelResetCapability } = PCI_EXPRESS_CAPABILITY;
    if (word !== start + InitiateFunctionLevelReset.word) return;
    if (InitiateFunctionLevelReset.get(this.#words, start) === 0) return;
    InitiateFunctionLevelReset.set(this.#words, start, 0);
    if (FunctionLevelResetCapability.get(this.#words, start) === 1) await this.actions.functionLevelReset();
  }

  /** Base address registers show their size by the bits that stay zero. */
  #fixBars(): void {
    for (let index = 0; index < 6; index++) {
      const resource = this.resources.get(index);
      const word = FIRST_BAR_WORD + index;
      if (resource) {
        const { bar, flags } = resource;
        this.#words[word] = (this.#words[word] & -Math.min(bar.size, 2 ** 31)) | flags;
        if (bar.kind === "mem64") {
          index++;
          if (bar.size > 2 ** 32) this.#words[word + 1] &= -(bar.size / 2 ** 32);
        }
      } else this.#words[word] = 0;
    }
  }

  #fixRom(): void {
    const resource = this.resources.get(6);
    this.#words[ROM_WORD] = resource ? this.#words[ROM_WORD] & (-resource.bar.size | 1) : 0;
  }

  /** Its BARs answer: those of a VF always, as far as the program can tell. */
  get memoryEnabled(): boolean {
    return this.pci.physicalFunction !== undefined || this.#showsMemory;
  }

  get #showsMemory(): boolean {
    const words = this.pci.physicalFunction ? this.#words[COMMAND_WORD] : this.pci.readConfig(COMMAND_WORD * 4, 4);
    return (words & TYPE0_HEADER.MemorySpaceEnable.lowMask) !== 0;
  }
}
