/** What each descriptor but the wait descriptor does (VT-d 6.5.2.1 to 6.5.2.8, 7.6.1). */
import { NO_PASID, type PrgResponse } from "@iommukit/core";
import {
  CONTEXT_CACHE_INVALIDATE as CC,
  DEVICE_TLB_INVALIDATE as DEV,
  DescriptorType,
  INTERRUPT_ENTRY_CACHE_INVALIDATE as IEC,
  IOTLB_INVALIDATE as IOTLB,
  PASID_CACHE_INVALIDATE as PC,
  PASID_DEVICE_TLB_INVALIDATE as PDEV,
  PAGE_GROUP_RESPONSE as PGRP,
  PASID_IOTLB_INVALIDATE as PIOTLB,
} from "../spec/invalidation.js";
import type { DeviceTlb } from "./device-tlb.js";
import type { Invalidate } from "./invalidate.js";

export class DescriptorExecution {
  constructor(
    private readonly invalidate: Invalidate,
    private readonly deviceTlb: DeviceTlb,
    private readonly respond: (response: PrgResponse) => void,
  ) {}

  execute(type: number, d: Int32Array): void {
    switch (type) {
      case DescriptorType.CONTEXT:
        this.#contextCache(d);
        break;
      case DescriptorType.PASID_CACHE:
        if (PC.G.get(d) === 3) this.invalidate.pasidAll();
        else this.invalidate.pasidDomain(PC.DID.get(d), PC.G.get(d) === 0 ? -1 : PC.PASID.get(d));
        break;
      case DescriptorType.IOTLB:
        this.#iotlb(d);
        break;
      case DescriptorType.PASID_IOTLB:
        this.#pasidIotlb(d);
        break;
      case DescriptorType.INTERRUPT_ENTRY:
        if (IEC.G.get(d) === 0) this.invalidate.interruptEntriesAll();
        else this.invalidate.interruptEntriesIndex(IEC.IIDX.get(d), IEC.IM.get(d));
        break;
      case DescriptorType.DEVICE_TLB:
        this.deviceTlb.invalidate(DEV.SID.get(d), NO_PASID, DEV.ADDR.hi(d), DEV.ADDR.lo(d), DEV.S.get(d) === 1, false);
        break;
      case DescriptorType.PASID_DEVICE_TLB:
        this.deviceTlb.invalidate(
          PDEV.SID.get(d),
          PDEV.PASID.get(d),
          PDEV.ADDR.hi(d),
          PDEV.ADDR.lo(d),
          PDEV.S.get(d) === 1,
          PDEV.G.get(d) === 1,
        );
        break;
      case DescriptorType.PAGE_GROUP_RESPONSE:
        this.respond({
          rid: PGRP.RID.get(d),
          pasid: PGRP.PP.get(d) === 1 ? PGRP.PASID.get(d) : NO_PASID,
          prgi: PGRP.PRGI.get(d),
          code: PGRP.RC.get(d),
        });
    }
  }

  #contextCache(d: Int32Array): void {
    const granularity = CC.G.get(d);
    if (granularity === 1) this.invalidate.contextAll();
    else if (granularity === 2) this.invalidate.contextDomain(CC.DID.get(d));
    else this.invalidate.contextDevice(CC.DID.get(d), CC.SID.get(d), CC.FM.get(d));
  }

  #iotlb(d: Int32Array): void {
    const did = IOTLB.DID.get(d);
    if (IOTLB.G.get(d) === 1) this.invalidate.iotlbAll();
    else if (IOTLB.G.get(d) === 2) this.invalidate.iotlbDomain(did);
    else this.invalidate.iotlbPages(did, IOTLB.ADDR.hi(d), IOTLB.ADDR.lo(d), IOTLB.AM.get(d), IOTLB.IH.get(d) === 1);
  }

  #pasidIotlb(d: Int32Array): void {
    const did = PIOTLB.DID.get(d);
    const pasid = PIOTLB.PASID.get(d);
    if (PIOTLB.G.get(d) === 2) this.invalidate.pasidIotlb(did, pasid);
    else
      this.invalidate.pasidIotlbPages(
        did,
        pasid,
        PIOTLB.ADDR.hi(d),
        PIOTLB.ADDR.lo(d),
        PIOTLB.AM.get(d),
        PIOTLB.IH.get(d) === 1,
      );
  }
}
