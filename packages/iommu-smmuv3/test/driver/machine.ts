/** A platform with one SMMU, and functions behind it that tests play themselves. */
import {
  type AddressSpace,
  ATS_CAPABILITY,
  AtsCompletion,
  createPlatform,
  type Device,
  ExtendedCapabilityId,
  hi32,
  type InvalidateRequest,
  type IommuDomain,
  type IommuInstance,
  lo32,
  type MmExitHandler,
  NO_PASID,
  newGather,
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
import type { Smmuv3Driver } from "../../src/driver/smmuv3-driver.js";
import type { Smmuv3Hardware } from "../../src/hardware/smmuv3-hardware.js";
import { type Smmuv3Options, smmuv3 } from "../../src/plugin.js";

export interface FunctionOptions {
  /** Leave out a capability. */
  readonly without?: readonly ("ats" | "pri" | "pasid")[];
  readonly pasidBits?: number;
  readonly responsesWithPasid?: boolean;
  readonly credits?: number;
}

const PCIE_AT = 0x40;
const ATS_AT = 0x100;
const PRI_AT = 0x110;
const PASID_AT = 0x120;

function configuration(options: FunctionOptions): Record<number, number> {
  const { without = [], pasidBits = 16, responsesWithPasid = true, credits = 512 } = options;
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
  const id = (name: "ats" | "pri" | "pasid", value: number) => (without.includes(name) ? 0xffe : value);
  const ats = { CapabilityID: id("ats", ExtendedCapabilityId.ATS), NextCapabilityOffset: PRI_AT, CapabilityVersion: 1 };
  put(ATS_AT, ATS_CAPABILITY.encode({ ...ats, PageAlignedRequest: true }));
  const pri = {
    CapabilityID: id("pri", ExtendedCapabilityId.PRI),
    NextCapabilityOffset: PASID_AT,
    CapabilityVersion: 1,
  };
  const state = {
    Stopped: true,
    PRGResponsePASIDRequired: responsesWithPasid,
    OutstandingPageRequestCapacity: credits,
  };
  put(PRI_AT, PRI_CAPABILITY.encode({ ...pri, ...state }));
  const pasid = { CapabilityID: id("pasid", ExtendedCapabilityId.PASID), CapabilityVersion: 1 };
  put(PASID_AT, PASID_CAPABILITY.encode({ ...pasid, MaxPASIDWidth: pasidBits }));
  return bytes;
}

/** A function that notes messages and completes invalidations at once, unless told to keep silent. */
export class TestFunction extends FakePciFunction {
  readonly invalidations: InvalidateRequest[] = [];
  readonly responses: PrgResponse[] = [];
  readonly resolved: string[] = [];
  silent = false;
  override readonly requester: RequesterPort;

  constructor(bdf: string, options: FunctionOptions, chip: () => Smmuv3Hardware) {
    super(bdf, { config: configuration(options) });
    this.requester = {
      invalidate: (request) => {
        this.invalidations.push(request);
        if (this.silent || !this.present) return;
        chip().invalidateCompletion({ rid: this.rid, itagVector: 2 ** request.itag, count: 1 });
      },
      pageResponse: (response) => void this.responses.push(response),
      stallResolved: (stag, action) => void this.resolved.push(`${action} ${stag}`),
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

export interface TestRequest {
  readonly read?: boolean;
  readonly write?: boolean;
  readonly last?: boolean;
}

export class Machine {
  readonly iommu: IommuInstance;
  readonly chip: Smmuv3Hardware;
  readonly ops: Smmuv3Driver;

  constructor(readonly platform: Platform) {
    this.iommu = platform.iommus[0];
    this.chip = this.iommu.chip as Smmuv3Hardware;
    this.ops = this.iommu.ops as Smmuv3Driver;
  }

  run<T>(body: () => Promise<T>): Promise<T> {
    return this.platform.run(body);
  }

  /** Printed lines since the last call. */
  log(): string[] {
    return this.platform.kernel.log.splice(0);
  }

  /** Plugs a function in, in a group with a default domain. Inside of the machine. */
  async plug(bdf = "0000:00:05.0", options: FunctionOptions = {}): Promise<PlayedDevice> {
    const pci = new TestFunction(bdf, options, () => this.chip);
    const [dev] = await this.platform.plug({ name: bdf, segment: 0, create: () => [pci] });
    return { dev, pci };
  }

  domainOf({ dev }: PlayedDevice): IommuDomain {
    const domain = dev.group?.domain;
    if (!domain) throw new Error(`${dev.name} is in no domain`);
    return domain;
  }

  /** An untranslated request, or one with PASID. @returns [status, physical address, stag] */
  translate({ dev }: PlayedDevice, address: bigint, access: number, pasid = NO_PASID): [number, number, number] {
    const out = new Translation();
    const status = this.chip.translate(dev.rid, pasid, hi32(address), lo32(address), access, out);
    return [status, (out.hi >>> 0) * 2 ** 32 + (out.lo >>> 0), out.stag];
  }

  ats({ dev }: PlayedDevice, address: bigint, access: number, pasid: number): [number, AtsCompletion] {
    const out = new AtsCompletion();
    return [this.chip.translationRequest(dev.rid, pasid, hi32(address), lo32(address), access, out), out];
  }

  pageRequest({ dev }: PlayedDevice, pasid: number, address: bigint, prgi: number, request: TestRequest = {}): void {
    const { read = true, write = false, last = true } = request;
    const rest = { execute: false, privileged: false };
    this.chip.pageRequest({
      rid: dev.rid,
      pasid,
      hi: hi32(address),
      lo: lo32(address),
      read,
      write,
      last,
      prgi,
      ...rest,
    });
  }

  process(name = "worker"): AddressSpace {
    return this.platform.kernel.spawn({ name }).mm as AddressSpace;
  }

  /** iommuSvaDeviceInit with page faults, and a bind. @returns the PASID */
  async share(device: PlayedDevice, mm: AddressSpace, features = 1, mmExit?: MmExitHandler): Promise<number> {
    await this.platform.sva.iommuSvaDeviceInit(device.dev, features, 0, mmExit);
    return this.platform.sva.iommuSvaBindDevice(device.dev, mm, features);
  }

  /** Unmaps and completes it. */
  async unmap(domain: IommuDomain, iova: bigint, pgsize: number, count: number): Promise<number> {
    const gather = newGather();
    const size = domain.ops.unmap(domain, iova, pgsize, count, gather);
    await domain.ops.iotlbSync(domain, gather);
    return size;
  }

  /** Names of the commands that the chip consumed while `body` ran, without CMD_ and CMD_SYNC. */
  async commands(body: () => Promise<unknown> | undefined): Promise<string[]> {
    const seen: string[] = [];
    const off = this.platform.trace.on("command:consumed", ({ command }) => {
      seen.push(command.replace("CMD_", ""));
    });
    await body();
    off();
    return seen.filter((name) => name !== "SYNC");
  }

  async trace(body: () => Promise<unknown> | undefined): Promise<TraceRecord[]> {
    const records: TraceRecord[] = [];
    const off = this.platform.trace.subscribe((record) => records.push(record));
    await body();
    off();
    return records;
  }
}

export async function machine(options: Smmuv3Options = {}): Promise<Machine> {
  return new Machine(await createPlatform({ iommus: [smmuv3(options)] }));
}
