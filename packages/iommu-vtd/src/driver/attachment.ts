/**
 * Devices on domains: context entries in legacy mode, the PASID table entry for requests without PASID in scalable mode
 * (VT-d 9.3 to 9.6). A device that is on no domain has no present entry: its DMA is refused.
 */
import { IommuError } from "@iommukit/core";
import { PASID_ENTRY } from "../spec/pasid-table.js";
import { CONTEXT_ENTRY, SM_CONTEXT_ENTRY } from "../spec/root-context.js";
import { disableAts, disablePasid, enableAts, enablePasid } from "./device-features.js";
import type { DeviceInfo } from "./device-info.js";
import type { VtdDomain } from "./domain.js";
import { type DomainIds, FLPT_DEFAULT_DID } from "./domain-ids.js";
import type { Invalidation } from "./invalidation.js";
import type { PageRequests } from "./page-requests.js";
import { PasidTable } from "./pasid-table.js";
import type { RootTable } from "./root-context.js";
import type { Unit } from "./unit.js";

export class Attachment {
  constructor(
    private readonly unit: Unit,
    private readonly root: RootTable,
    private readonly ids: DomainIds,
    private readonly invalidation: Invalidation,
    private readonly pageRequests: PageRequests,
  ) {}

  /**
   * Scalable mode: gives the function its PASID directory. @param bits bits of the PASIDs that it may send; 0 for none
   * @throws IommuError ENOMEM; the function is as before then
   */
  async add(info: DeviceInfo, bits: number): Promise<void> {
    const { scalable, ecap } = this.unit.features;
    if (!scalable) return;
    info.pasidTable = new PasidTable(this.unit, info.device.name, bits);
    enablePasid(info, bits);
    enableAts(this.unit, info);
    // With RID_PASID any PASID may stand for requests without one, so 0 is left to processes (A3, D2).
    info.ridPasid = ecap.RPS && bits > 0 ? 2 ** bits - 1 : 0;
    try {
      await this.root.create(info.rid, this.#scalableContext(info));
    } catch (error) {
      this.#takeBack(info);
      throw error;
    }
    await this.invalidation.contextCreated(info, 0);
  }

  /** What the function was given before it had a context entry. */
  #takeBack(info: DeviceInfo): void {
    disableAts(info);
    disablePasid(info);
    info.pasidTable?.free();
    info.pasidTable = undefined;
  }

  async remove(info: DeviceInfo): Promise<void> {
    if (info.domain) await this.detach(info);
    if (!info.pasidTable) return;
    this.root.clearPresent(info.rid);
    await this.invalidation.scalableContextChanged(info, []);
    this.root.erase(info.rid);
    this.#takeBack(info);
  }

  /**
   * A reset is about to begin: nothing of the function is translated or invalidated until `unblock`, while its domain and its PASID
   * table stay. Who has found a device-TLB before has his descriptors in front of the wait that ends this.
   */
  async block(info: DeviceInfo): Promise<void> {
    info.blocked = true;
    if (!this.root.isPresent(info.rid)) return;
    this.root.clearPresent(info.rid);
    const did = info.domain?.did ?? FLPT_DEFAULT_DID;
    // Processes have the default domain-id.
    if (this.unit.features.scalable)
      await this.invalidation.scalableContextChanged(info, new Set([did, FLPT_DEFAULT_DID]));
    else await this.invalidation.legacyContextRemoved(info, did);
  }

  /** The reset has emptied the device-TLB. From here on it is invalidated again, before the context entry lets it be filled. */
  async unblock(info: DeviceInfo): Promise<void> {
    info.blocked = false;
    const { domain } = info;
    if (this.unit.features.scalable) {
      this.root.update(info.rid, this.#scalableContext(info));
      await this.invalidation.contextCreated(info, 0);
    } else if (domain && domain.type !== "blocked") {
      this.root.update(info.rid, this.#legacyContext(domain, info));
      await this.invalidation.contextCreated(info, domain.did);
    }
  }

  /** Scalable mode: page requests of the function are let through, or not any more. */
  async setPageRequests(info: DeviceInfo, credits: number): Promise<void> {
    info.priCredits = credits;
    this.root.update(info.rid, this.#scalableContext(info));
    const { domain } = info;
    await this.invalidation.scalableContextChanged(info, domain && domain.type !== "blocked" ? [domain.did] : []);
  }

  /**
   * @throws IommuError EINVAL the domain is snooped for good and the unit cannot; ENOSPC no domain-id left; ENOMEM. The function
   *   stays where it is then
   */
  async attach(domain: VtdDomain, info: DeviceInfo): Promise<void> {
    if (domain.snoop && !this.unit.features.ecap.SC)
      throw new IommuError("EINVAL", `${info.device.name}: domain ${domain.id} enforces cache coherency, ECAP.SC = 0`);
    if (domain.type !== "blocked") this.#prepare(info);
    const needsId = domain.devices.size === 0 && domain.table !== undefined;
    const did = needsId ? this.ids.alloc() : domain.did;
    if (info.domain) await this.detach(info);
    domain.did = did;
    domain.devices.add(info);
    info.domain = domain;
    if (domain.type === "blocked") return;
    if (this.unit.features.scalable) {
      await pasidTableOf(info).create(info.ridPasid, this.pasidEntry(domain));
      await this.invalidation.pasidEntryCreated(did, info.ridPasid);
    } else {
      if (domain.table) enableAts(this.unit, info);
      await this.root.create(info.rid, this.#legacyContext(domain, info));
      await this.invalidation.contextCreated(info, did);
    }
  }

  /** Makes the tables of the function's entry. @throws IommuError ENOMEM */
  #prepare(info: DeviceInfo): void {
    if (this.unit.features.scalable) pasidTableOf(info).entryOf(info.ridPasid);
    else this.root.entryOf(info.rid);
  }

  async detach(info: DeviceInfo): Promise<void> {
    const { domain } = info;
    if (!domain) return;
    if (domain.type !== "blocked") {
      if (this.unit.features.scalable) await this.tearDownPasid(info, info.ridPasid, false);
      else {
        this.root.clearPresent(info.rid);
        await this.invalidation.legacyContextRemoved(info, domain.did);
        this.root.erase(info.rid);
        disableAts(info);
      }
    }
    info.domain = undefined;
    domain.devices.delete(info);
    if (domain.devices.size > 0) return;
    this.ids.free(domain.did);
    domain.did = FLPT_DEFAULT_DID;
  }

  /**
   * Takes the translation of a PASID away (H24): not present, caches in order, zeroed, page requests drained.
   * @param ignoreFaults a process is exiting: DMA that still comes is refused without a record, the entry stays until a
   *   second call takes it away (C10)
   */
  async tearDownPasid(info: DeviceInfo, pasid: number, ignoreFaults: boolean): Promise<void> {
    const table = pasidTableOf(info);
    const entry = table.read(pasid);
    const present = PASID_ENTRY.P.decode(entry);
    const did = present ? PASID_ENTRY.DID.get(entry) : FLPT_DEFAULT_DID;
    if (present) {
      await table.clearPresent(pasid, ignoreFaults);
      const type = PASID_ENTRY.PGTT.decode(entry);
      await this.invalidation.pasidEntryRemoved(info, did, pasid, type === "secondStage" || type === "nested");
    }
    await table.erase(pasid, ignoreFaults);
    if (!ignoreFaults) await this.pageRequests.drain(info, pasid, did);
  }

  #legacyContext(domain: VtdDomain, info: DeviceInfo): Int32Array {
    const { features } = this.unit;
    const common = { P: !info.blocked, DID: domain.did, AW: features.aw };
    if (!domain.table) return CONTEXT_ENTRY.encode({ ...common, TT: "passThrough" });
    return CONTEXT_ENTRY.encode({
      ...common,
      TT: info.atsEnabled ? "deviceTlb" : "untranslatedOnly",
      SSPTPTR: domain.table.root,
    });
  }

  #scalableContext(info: DeviceInfo): Int32Array {
    const { directory, pdts } = pasidTableOf(info);
    return SM_CONTEXT_ENTRY.encode({
      P: !info.blocked,
      DTE: info.atsEnabled,
      PASIDE: info.pasidEnabled,
      PRE: info.priEnabled,
      PDTS: pdts,
      PASIDDIRPTR: directory,
      RID_PASID: info.ridPasid,
    });
  }

  /** The PASID table entry of requests without PASID. */
  pasidEntry(domain: VtdDomain): Int32Array {
    const { features } = this.unit;
    const entry = this.#commonFields(domain.did);
    if (!domain.table) return PASID_ENTRY.assign(entry, { PGTT: "passThrough" });
    if (domain.stage === "second")
      return PASID_ENTRY.assign(entry, {
        PGTT: "secondStage",
        SSADE: domain.dirtyTracking,
        SSPTPTR: domain.table.root,
      });
    return PASID_ENTRY.assign(entry, {
      PGTT: "firstStage",
      FSPTPTR: domain.table.root,
      FSPM: domain.table.levels === 5 ? "fiveLevel" : "fourLevel",
      // First-stage leaves have no snoop bit: the entry says it from the start, so that enforcing it later changes nothing.
      PGSNP: features.ecap.SC,
    });
  }

  /** The PASID table entry of a bound process. @param root of its page table */
  processEntry(root: number, levels: number): Int32Array {
    return PASID_ENTRY.assign(this.#commonFields(FLPT_DEFAULT_DID), {
      PGTT: "firstStage",
      FSPTPTR: root,
      FSPM: levels === 5 ? "fiveLevel" : "fourLevel",
    });
  }

  /** AW is reserved where there is no second stage. */
  #commonFields(did: number): Int32Array {
    const { ecap, aw } = this.unit.features;
    const usesWidth = ecap.SSTS || this.unit.options.widthAlways === true;
    return PASID_ENTRY.encode({ P: true, DID: did, AW: usesWidth ? aw : 0, PWSNP: ecap.SMPWCS });
  }
}

export function pasidTableOf(info: DeviceInfo): PasidTable {
  if (!info.pasidTable)
    throw new IommuError("ENODEV", `${info.device.name} has no PASID table: the unit is in legacy mode`);
  return info.pasidTable;
}
