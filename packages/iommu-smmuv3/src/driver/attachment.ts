/**
 * Moves devices between domains. The new domain invalidates for the device before the STE changes and the old one until after
 * it has, so that no unmap of either is missed; ATS is off before the STE refuses it and on only when the STE allows it.
 */
import { IommuError, isErrno, Mutex, NO_PASID, pciAtsSupported, pciDisableAts, pciEnableAts } from "@iommukit/core";
import { CdTable } from "./cd-table.js";
import { dmaCd } from "./cds.js";
import type { CommandQueue } from "./command-queue.js";
import { cfgiSte, prefetchConfig } from "./commands.js";
import type { Smmuv3Domain } from "./domain.js";
import type { DriverContext } from "./driver-context.js";
import { STE_RULES } from "./entry-rules.js";
import { EntryWriter } from "./entry-writer.js";
import type { Invalidation } from "./invalidation.js";
import { type InvalidationItem, InvalidationType } from "./invalidation-array.js";
import type { Master } from "./master.js";
import { PageTableQuirk, stageOneControl, stageTwoControl } from "./page-table-geometry.js";
import { type Smmuv3Features, smallestPageShift } from "./probe.js";
import { abortSte, bypassSte, stageOneSte, stageTwoSte } from "./stes.js";
import type { StreamTable } from "./stream-table.js";

export class Attachment {
  readonly #writer: EntryWriter;
  /** arm_smmu_asid_lock: nobody's ASID changes while a device moves. */
  readonly lock: Mutex;

  constructor(
    private readonly context: DriverContext,
    private readonly features: Smmuv3Features,
    private readonly commands: CommandQueue,
    private readonly invalidation: Invalidation,
    private readonly streams: StreamTable,
  ) {
    this.#writer = new EntryWriter(context.memory, context.scheduler, STE_RULES, context.stored("STE"));
    this.lock = new Mutex(context.scheduler, context.trace, "arm_smmu_asid_lock");
  }

  /** @throws IommuError EBUSY processes are bound and the domain has no stage 1; ENOMEM. The device stays where it is then. */
  async attach(master: Master, domain: Smmuv3Domain): Promise<void> {
    await this.lock.with(() => this.#move(master, domain));
  }

  /** Every transaction of the device aborts from now on. */
  async detach(master: Master): Promise<void> {
    await this.lock.with(() => this.#move(master, undefined));
  }

  /**
   * A reset is about to begin: nothing of the device is translated or invalidated until `unblock`, while its domain and its bonds
   * stay. Who has found its ATC reachable before has put his commands in front of the CMD_SYNC that ends this.
   */
  async block(master: Master): Promise<void> {
    await this.lock.with(async () => {
      master.blocked = true;
      await this.#writeSte(master.sid, abortSte());
    });
  }

  /** The reset has emptied the ATC. From here on it is invalidated again, before the STE lets it be filled. */
  async unblock(master: Master): Promise<void> {
    await this.lock.with(async () => {
      master.blocked = false;
      if (master.domain) await this.#install(master, master.domain);
    });
  }

  async #move(master: Master, domain: Smmuv3Domain | undefined): Promise<void> {
    const old = master.domain;
    const oldItems = old ? items(master, old) : [];
    if (domain?.stage === "s1") {
      master.cdTable ??= this.#newCdTable(master);
      await master.cdTable.prepare(0);
    } else if (master.cdTable && master.cdTable.inUse.size > 0) {
      throw new IommuError("EBUSY", `${master.device.name}: ${master.cdTable.inUse.size} processes are bound`);
    }
    const hadAts = master.ats;
    master.ats = (domain?.paging ?? false) && this.features.ats && pciAtsSupported(master.device.pci);
    domain?.masters.add(master);
    domain?.invalidations.merge(items(master, domain));
    if (hadAts && !master.ats) pciDisableAts(master.device.pci);
    await this.#install(master, domain);
    if (master.ats && !hadAts && domain) await this.#enableAts(master, domain);
    // The translation has changed: both domains invalidate for the device, none for what was cached before.
    else if (master.ats) await this.invalidation.atc(master.sid, NO_PASID);
    // ATS is off. The answer says that no transaction with a translation of the old domain is under way any more.
    else if (hadAts && master.device.pci.present && !master.blocked) await this.invalidation.atcOff(master.sid);
    master.domain = domain;
    if (old) await this.#leave(master, old, oldItems);
  }

  #newCdTable(master: Master): CdTable {
    return new CdTable(this.context, this.commands, master.sid, master.ssidBits, this.features.twoLevelCdTable);
  }

  async #install(master: Master, domain: Smmuv3Domain | undefined): Promise<void> {
    const { features } = this;
    if (master.blocked) return this.#writeSte(master.sid, abortSte());
    if (domain?.stage === "s1") {
      await this.writeCd(master, domain);
      await this.#writeSte(master.sid, this.#stageOne(master, master.cdTable as CdTable));
      return;
    }
    await this.#writeSte(
      master.sid,
      domain?.stage === "s2" ? stageTwo(master, domain, features) : this.#untranslated(domain),
    );
    await master.cdTable?.clear(0);
  }

  #untranslated(domain: Smmuv3Domain | undefined): Int32Array {
    return domain?.stage === "bypass" ? bypassSte(this.features) : abortSte();
  }

  /** The CD for transactions without a PASID, at the device's and the domain's present state. */
  async writeCd(master: Master, domain: Smmuv3Domain): Promise<void> {
    const { table, tag } = domain;
    if (!table || !master.cdTable) return;
    await master.cdTable.write(0, dmaCd(table.root, stageOneControl(table.geometry), tag, this.stalls(master, domain)));
  }

  /** CD.S: each device has CDs of its own. S-16: the domain's first device decides for all. */
  stalls(master: Master, domain: Smmuv3Domain): boolean {
    if (!this.context.variants.has("S-16")) return master.stall;
    const [first = master] = domain.masters;
    return first.stall;
  }

  #stageOne(master: Master, table: CdTable): Int32Array {
    const { features, context } = this;
    return stageOneSte(
      {
        table,
        ats: master.ats,
        stall: master.stall,
        // S-12: found out only when the device's page requests are enabled, after this.
        responsesWithPasid: master.responsesWithPasid && !context.variants.has("S-12"),
        s1dss: "ssid0",
      },
      // L-26: stalls are disabled also where the hardware has none.
      context.variants.has("L-26") ? { ...features, stalls: true } : features,
    );
  }

  async #writeSte(sid: number, ste: Int32Array): Promise<void> {
    const at = this.streams.ste(sid);
    const sync = async () => {
      await this.commands.issueSync(cfgiSte(sid));
    };
    if (this.context.variants.has("L-8")) await this.#writer.overwrite(at, ste, sync);
    else await this.#writer.write(at, ste, sync);
    const prefetch = prefetchConfig(sid);
    // L-29: a size and an address, which this command has not.
    if (this.context.variants.has("L-29")) prefetch.set([12, 0x1000], 2);
    await this.commands.issue(prefetch);
  }

  async #enableAts(master: Master, domain: Smmuv3Domain): Promise<void> {
    const stu = smallestPageShift(this.features);
    try {
      pciEnableAts(master.device.pci, stu);
    } catch (error) {
      if (!isErrno(error)) throw error;
      this.context.print(`${master.device.name}: Failed to enable ATS (STU ${stu})`);
      domain.invalidations.unref([atsItem(master)]);
      master.ats = false;
    }
  }

  async #leave(master: Master, old: Smmuv3Domain, oldItems: readonly InvalidationItem[]): Promise<void> {
    if (master.domain !== old) old.masters.delete(master);
    const gone = old.invalidations.unref(oldItems);
    old.invalidations.purge();
    // Nobody invalidates that tag any more: its entries go now, before somebody else gets it.
    for (const item of gone) if (item.type === old.tagItem.type) await this.invalidation.tag(item);
  }
}

function atsItem(master: Master): InvalidationItem {
  return { type: InvalidationType.ATS, id: master.sid, ssid: NO_PASID };
}

/** What a change of the domain's tables has to invalidate for the device. */
function items(master: Master, domain: Smmuv3Domain): InvalidationItem[] {
  if (!domain.paging) return [];
  return master.ats ? [domain.tagItem, atsItem(master)] : [domain.tagItem];
}

function stageTwo(master: Master, domain: Smmuv3Domain, features: Smmuv3Features): Int32Array {
  if (!domain.table) throw new Error(`domain ${domain.id} has no stage 2`);
  const { geometry, root } = domain.table;
  return stageTwoSte(
    {
      vmid: domain.tag,
      root,
      control: stageTwoControl(geometry),
      ats: master.ats,
      stall: master.stall,
      forceWriteBack: (geometry.config.quirks & PageTableQuirk.ARM_S2FWB) !== 0,
    },
    features,
  );
}
