/** A platform with one remapping unit, and functions behind it that tests play themselves. */
import {
  type AddressSpace,
  ATS_CAPABILITY,
  AtsCompletion,
  createPlatform,
  type Device,
  ExtendedCapabilityId,
  hi32,
  type InvalidateRequest,
  type IommuInstance,
  lo32,
  type MmExitHandler,
  NO_PASID,
  PASID_CAPABILITY,
  PCI_EXPRESS_CAPABILITY,
  type Platform,
  PRI_CAPABILITY,
  type PrgResponse,
  type RequesterPort,
  type TraceRecord,
  Translation,
} from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import type { VtdDriver } from "../../src/driver/vtd-driver.js";
import type { VtdHardware } from "../../src/hardware/vtd-hardware.js";
import { type VtdOptions, vtd } from "../../src/plugin.js";
import type { VtdPreset } from "../../src/presets.js";
import { CAP, ECAP } from "../../src/spec/registers.js";

export interface FunctionOptions {
  /** Leave out a capability: "ats", "pri", "pasid". */
  readonly without?: readonly string[];
  readonly pasidBits?: number;
  readonly pageAligned?: boolean;
  /** Bridges between it and the root complex, nearest first. */
  readonly upstream?: readonly FakePciFunction[];
}

/** A bridge from PCIe to conventional PCI. */
export function conventionalBridge(bdf: string, secondary: number): FakePciFunction {
  const pcie = PCI_EXPRESS_CAPABILITY.encode({
    CapabilityID: 0x10,
    CapabilityVersion: 2,
    DevicePortType: "PCIe to PCI bridge",
  });
  const bytes = [...new Uint8Array(pcie.buffer)].map((byte, i): [number, number] => [PCIE_AT + i, byte]);
  return new FakePciFunction(bdf, { config: { ...Object.fromEntries(bytes), 6: 0x10, 52: PCIE_AT, 25: secondary } });
}

const PCIE_AT = 0x40;
const ATS_AT = 0x100;
const PRI_AT = 0x110;
const PASID_AT = 0x120;

function configuration({ without = [], pasidBits = 16, pageAligned = true }: FunctionOptions): Record<number, number> {
  const bytes: Record<number, number> = { 6: 0x10, 52: PCIE_AT };
  const put = (at: number, words: Int32Array) => {
    for (const [i, byte] of new Uint8Array(words.buffer).entries()) bytes[at + i] = byte;
  };
  const pcie = {
    CapabilityID: 0x10,
    CapabilityVersion: 2,
    DevicePortType: "root complex integrated endpoint",
  } as const;
  put(PCIE_AT, PCI_EXPRESS_CAPABILITY.encode({ ...pcie, EndEndTLPPrefixSupported: true }));
  const id = (name: string, value: number) => (without.includes(name) ? 0xffe : value);
  const ats = { CapabilityID: id("ats", ExtendedCapabilityId.ATS), NextCapabilityOffset: PRI_AT, CapabilityVersion: 1 };
  put(ATS_AT, ATS_CAPABILITY.encode({ ...ats, PageAlignedRequest: pageAligned, InvalidateQueueDepth: 0 }));
  const pri = {
    CapabilityID: id("pri", ExtendedCapabilityId.PRI),
    NextCapabilityOffset: PASID_AT,
    CapabilityVersion: 1,
  };
  const credits = { Stopped: true, PRGResponsePASIDRequired: true, OutstandingPageRequestCapacity: 512 };
  put(PRI_AT, PRI_CAPABILITY.encode({ ...pri, ...credits }));
  const pasid = { CapabilityID: id("pasid", ExtendedCapabilityId.PASID), CapabilityVersion: 1 };
  put(PASID_AT, PASID_CAPABILITY.encode({ ...pasid, MaxPASIDWidth: pasidBits }));
  return bytes;
}

/** A function that notes messages and completes invalidations at once, unless told to keep silent. */
export class TestFunction extends FakePciFunction {
  readonly invalidations: InvalidateRequest[] = [];
  readonly responses: PrgResponse[] = [];
  silent = false;
  override readonly requester: RequesterPort;

  constructor(bdf: string, options: FunctionOptions, chip: () => VtdHardware) {
    super(bdf, { config: configuration(options), upstream: options.upstream });
    this.requester = {
      invalidate: (request) => {
        this.invalidations.push(request);
        if (!this.silent && this.present)
          chip().invalidateCompletion({ rid: this.rid, itagVector: 2 ** request.itag, count: 1 });
      },
      pageResponse: (response) => void this.responses.push(response),
      stallResolved: () => {},
    };
  }

  get ats(): boolean {
    return this.readConfig(ATS_AT + 6, 2) >= 0x8000;
  }

  get pri(): boolean {
    return (this.readConfig(PRI_AT + 4, 2) & 1) === 1;
  }

  get pasid(): boolean {
    return (this.readConfig(PASID_AT + 6, 2) & 1) === 1;
  }
}

export interface PlayedDevice {
  readonly dev: Device;
  readonly pci: TestFunction;
}

export class Machine {
  readonly iommu: IommuInstance;
  readonly chip: VtdHardware;
  readonly ops: VtdDriver;
  readonly #devices: Device[] = [];

  constructor(readonly platform: Platform) {
    this.iommu = platform.iommus[0];
    this.chip = this.iommu.chip as VtdHardware;
    this.ops = this.iommu.ops as VtdDriver;
  }

  run<T>(body: () => Promise<T>): Promise<T> {
    return this.platform.run(body);
  }

  get log(): readonly string[] {
    return this.platform.kernel.log;
  }

  /** Lines about faults since the last call. */
  faults(): string[] {
    return this.platform.kernel.log.splice(0).filter((line) => line.includes("fault"));
  }

  /** Plugs a function in, in a group with a default domain. */
  async plug(bdf = "0000:00:05.0", options: FunctionOptions = {}): Promise<PlayedDevice> {
    const pci = new TestFunction(bdf, options, () => this.chip);
    const plugin = { name: bdf, segment: 0, create: () => [pci] };
    const [dev] = await this.platform.plug(plugin);
    this.#devices.push(dev);
    return { dev, pci };
  }

  /** An untranslated request, or one with PASID. @returns [status, physical address] */
  translate({ dev }: PlayedDevice, address: bigint, access: number, pasid = NO_PASID): [number, number] {
    const out = new Translation();
    const status = this.chip.translate(dev.rid, pasid, hi32(address), lo32(address), access, out);
    return [status, (out.hi >>> 0) * 2 ** 32 + (out.lo >>> 0)];
  }

  ats({ dev }: PlayedDevice, address: bigint, access: number, pasid: number): [number, AtsCompletion] {
    const out = new AtsCompletion();
    return [this.chip.translationRequest(dev.rid, pasid, hi32(address), lo32(address), access, out), out];
  }

  /** Sends the last page request of a group. */
  pageRequest(
    { dev }: PlayedDevice,
    pasid: number,
    address: bigint,
    prgi: number,
    request: { read?: boolean; write?: boolean; last?: boolean; execute?: boolean; privileged?: boolean } = {},
  ): void {
    const { read = true, write = false, last = true, execute = false, privileged = false } = request;
    this.chip.pageRequest({
      rid: dev.rid,
      pasid,
      hi: hi32(address),
      lo: lo32(address),
      read,
      write,
      execute,
      privileged,
      last,
      prgi,
    });
  }

  process(name = "worker"): AddressSpace {
    return this.platform.kernel.spawn({ name }).mm as AddressSpace;
  }

  async share(device: PlayedDevice, mm: AddressSpace, features = 1, mmExit?: MmExitHandler): Promise<number> {
    await this.platform.sva.iommuSvaDeviceInit(device.dev, features, 0, mmExit);
    return this.platform.sva.iommuSvaBindDevice(device.dev, mm, features);
  }

  /** Names of the descriptors that the unit consumed while `body` ran, waits left out. */
  async descriptors(body: () => Promise<unknown> | undefined): Promise<string[]> {
    const seen: string[] = [];
    const off = this.platform.trace.on("command:consumed", ({ command }) => {
      if (command !== "inv_wait_dsc") seen.push(command);
    });
    await body();
    off();
    return seen;
  }

  async trace(body: () => Promise<unknown> | undefined): Promise<TraceRecord[]> {
    const records: TraceRecord[] = [];
    const off = this.platform.trace.subscribe((record) => records.push(record));
    await body();
    off();
    return records;
  }
}

export async function machine(options: VtdOptions = {}): Promise<Machine> {
  return new Machine(await createPlatform({ iommus: [vtd(options)] }));
}

/** A preset with capability fields changed. */
export function withFields(
  base: VtdPreset,
  { cap = {}, ecap = {} }: { cap?: Record<string, number>; ecap?: Record<string, number> },
): VtdPreset {
  const change = (table: typeof CAP | typeof ECAP, value: bigint, fields: Record<string, number>) => {
    const words = Int32Array.of(lo32(value), hi32(value));
    for (const [name, field] of Object.entries(fields)) table.field(name).set(words, 0, field);
    return (BigInt(words[1] >>> 0) << 32n) | BigInt(words[0] >>> 0);
  };
  return { ...base, cap: change(CAP, base.cap, cap), ecap: change(ECAP, base.ecap, ecap) };
}
