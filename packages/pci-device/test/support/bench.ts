/** RAM, a scheduler and a fake IOMMU: enough for one device. */
import {
  AddressDecoder,
  doorbell,
  hi32,
  lo32,
  type PciFunction,
  pciEnableAts,
  pciEnablePasid,
  pciEnablePri,
  SlabMemory,
  Tracer,
  VirtualTimeScheduler,
} from "@iommukit/core";
import type { DevicePorts } from "../../src/device-ports.js";
import type { PciDevice } from "../../src/pci-device.js";
import { FakeIommu } from "./fake-iommu.js";

export const RAM = 0x1000_0000;

export class Bench {
  readonly scheduler = new VirtualTimeScheduler();
  readonly trace = new Tracer(() => this.scheduler.now);
  readonly memory = new SlabMemory([{ base: RAM, size: 0x100_0000 }]);
  readonly bus = new AddressDecoder(this.memory);
  readonly iommu = new FakeIommu();
  /** Messages that rang the doorbell. */
  readonly messages: { readonly address: number; readonly data: number }[] = [];

  constructor() {
    this.bus.attach(
      doorbell("msi", 0xfee0_0000, 0x10_0000, (address, data) => {
        this.messages.push({ address, data });
        return true;
      }),
    );
  }

  ports(): DevicePorts {
    return { port: this.iommu, bus: this.bus, scheduler: this.scheduler, trace: this.trace, upstream: [] };
  }

  run<T>(body: () => Promise<T>): Promise<T> {
    return this.scheduler.run(body);
  }

  /** Memory and bus master on; PASID, PRI and ATS as the kernel enables them, where the function has them. */
  enable(device: PciDevice, credits = 32): void {
    device.writeConfig(4, 2, 6);
    if (device.capabilities.pasid !== 0) pciEnablePasid(device, 0);
    if (device.capabilities.pri !== 0) pciEnablePri(device, credits);
    if (device.capabilities.ats !== 0) pciEnableAts(device, 12);
  }

  bytes(pa: number, length: number): Uint8Array {
    const into = new Uint8Array(length);
    this.memory.readBytes(pa, into);
    return into;
  }
}

export function invalidateRequest(
  pci: PciFunction,
  pasid: number,
  address: bigint,
  shift = 12,
  itag = 0,
  global = false,
) {
  return { rid: pci.rid, pasid, hi: hi32(address), lo: lo32(address), shift, global, itag };
}
