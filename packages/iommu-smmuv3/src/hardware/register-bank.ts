/**
 * The registers with their access rules: fields that the chip does not have are RES0, fields that an enable bit guards
 * keep their value while it is set (6.3; SMMUv3.2 behaviour: such writes are ignored), updates are acknowledged at once.
 */
import { type AnyRegister, RegisterFile } from "@iommukit/core";
import * as r from "../spec/registers.js";
import type { ChipContext } from "./chip-context.js";
import type { Features } from "./features.js";

export function createRegisters(chip: ChipContext): RegisterFile {
  const { features, name } = chip;
  const file = new RegisterFile(name, r.REGISTER_SPACE, r.REGISTERS);
  const words = file.words;
  const enabled = (field: { lowMask: number }) => (words[r.CR0.index] & field.lowMask) !== 0;
  const irq = (field: { lowMask: number }) => (words[r.IRQ_CTRL.index] & field.lowMask) !== 0;
  const unless = (register: AnyRegister, guarded: () => boolean) => file.guard(register, () => (guarded() ? 0 : -1));

  file.guard(r.CR0, () => cr0Bits(features));
  file.guard(r.CR1, () => {
    const tables = enabled(r.CR0.SMMUEN) ? 0 : r.CR1.TABLE_IC.lowMask | r.CR1.TABLE_OC.lowMask | r.CR1.TABLE_SH.lowMask;
    const anyQueue = enabled(r.CR0.CMDQEN) || enabled(r.CR0.EVENTQEN) || enabled(r.CR0.PRIQEN);
    return tables | (anyQueue ? 0 : r.CR1.QUEUE_IC.lowMask | r.CR1.QUEUE_OC.lowMask | r.CR1.QUEUE_SH.lowMask);
  });
  file.guard(r.CR2, () => (enabled(r.CR0.SMMUEN) ? 0 : cr2Bits(features)));
  file.guard(r.IRQ_CTRL, () => (features.pri ? -1 : ~r.IRQ_CTRL.PRIQ_IRQEN.lowMask));
  file.guard(r.GBPA, () => gbpaBits(features));
  file.guard(r.AGBPA, () => 0);
  file.guard(r.GERRORN, () => gerrorBits(features));
  unless(r.STRTAB_BASE, () => enabled(r.CR0.SMMUEN));
  file.guard(r.STRTAB_BASE_CFG, () => {
    if (enabled(r.CR0.SMMUEN)) return 0;
    return features.twoLevelStreamTable ? -1 : r.STRTAB_BASE_CFG.LOG2SIZE.lowMask;
  });
  unless(r.CMDQ_BASE, () => enabled(r.CR0.CMDQEN));
  file.guard(r.CMDQ_PROD, () => indexMask(words, r.CMDQ_BASE, features.cmdqs));
  file.guard(r.CMDQ_CONS, () => (enabled(r.CR0.CMDQEN) ? 0 : indexMask(words, r.CMDQ_BASE, features.cmdqs)));
  unless(r.EVENTQ_BASE, () => enabled(r.CR0.EVENTQEN));
  const overflow = r.EVENTQ_PROD.OVFLG.lowMask;
  const eventIndex = () => indexMask(words, r.EVENTQ_BASE, features.eventqs) | overflow;
  file.guard(r.EVENTQ_PROD, () => (enabled(r.CR0.EVENTQEN) ? 0 : eventIndex()));
  file.guard(r.EVENTQ_CONS, eventIndex);
  const priIndex = () => (features.pri ? indexMask(words, r.PRIQ_BASE, features.priqs) | overflow : 0);
  unless(r.PRIQ_BASE, () => !features.pri || enabled(r.CR0.PRIQEN));
  file.guard(r.PRIQ_PROD, () => (enabled(r.CR0.PRIQEN) ? 0 : priIndex()));
  file.guard(r.PRIQ_CONS, priIndex);
  for (const register of [r.GERROR_IRQ_CFG0, r.GERROR_IRQ_CFG1, r.GERROR_IRQ_CFG2]) {
    unless(register, () => !features.msi || irq(r.IRQ_CTRL.GERROR_IRQEN));
  }
  for (const register of [r.EVENTQ_IRQ_CFG0, r.EVENTQ_IRQ_CFG1, r.EVENTQ_IRQ_CFG2]) {
    unless(register, () => !features.msi || irq(r.IRQ_CTRL.EVENTQ_IRQEN));
  }
  for (const register of [r.PRIQ_IRQ_CFG0, r.PRIQ_IRQ_CFG1]) {
    unless(register, () => !features.msi || !features.pri || irq(r.IRQ_CTRL.PRIQ_IRQEN));
  }
  // LO decides about wired interrupts as well: it is there without MSIs.
  file.guard(r.PRIQ_IRQ_CFG2, () => {
    if (!features.pri || irq(r.IRQ_CTRL.PRIQ_IRQEN)) return 0;
    return features.msi ? -1 : r.PRIQ_IRQ_CFG2.LO.lowMask;
  });

  // Above the wrap bit the indexes read as zero, also when the queue has become smaller (6.3.27 and the other indexes).
  for (const [base, max, ...indexes] of [
    [r.CMDQ_BASE, features.cmdqs, r.CMDQ_PROD, r.CMDQ_CONS],
    [r.EVENTQ_BASE, features.eventqs, r.EVENTQ_PROD, r.EVENTQ_CONS],
    [r.PRIQ_BASE, features.priqs, r.PRIQ_PROD, r.PRIQ_CONS],
  ] as const) {
    file.onWrite(base, () => {
      for (const { index } of indexes) words[index] &= indexMask(words, base, max) | ~INDEX;
    });
  }
  file.onWrite(r.IRQ_CTRL, () => file.set(r.IRQ_CTRLACK, file.get(r.IRQ_CTRL)));
  resetRegisters(file, chip);
  return file;
}

/** Power-on values: identification from the preset, everything else zero where the architecture leaves it open. */
export function resetRegisters(file: RegisterFile, chip: ChipContext): void {
  const { features, preset } = chip;
  file.reset();
  file.set(r.IDR0, preset.idr0);
  file.set(r.IDR1, preset.idr1);
  file.set(r.IDR3, preset.idr3);
  file.set(r.IDR5, preset.idr5);
  file.set(r.IIDR, preset.iidr);
  file.set(r.AIDR, preset.aidr);
  // Private TLB maintenance after reset, as 6.3.12 recommends.
  if (features.btm) file.set(r.CR2, r.CR2.PTM.lowMask);
  file.set(r.CMDQ_BASE, features.cmdqs);
  file.set(r.EVENTQ_BASE, features.eventqs);
  if (features.pri) file.set(r.PRIQ_BASE, features.priqs);
}

function cr0Bits(f: Features): number {
  const { CR0 } = r;
  let mask = CR0.SMMUEN.lowMask | CR0.CMDQEN.lowMask | CR0.EVENTQEN.lowMask;
  if (f.pri) mask |= CR0.PRIQEN.lowMask;
  if (f.ats) mask |= CR0.ATSCHK.lowMask;
  if (f.vmw) mask |= CR0.VMW.lowMask;
  return mask;
}

function cr2Bits(f: Features): number {
  const { CR2 } = r;
  let mask = CR2.RECINVSID.lowMask;
  if (f.hyp) mask |= CR2.E2H.lowMask;
  if (f.btm) mask |= CR2.PTM.lowMask;
  if (f.atsRecErr) mask |= CR2.REC_CFG_ATS.lowMask;
  return mask;
}

/** No memory types leave the model, so the overrides of types read as zero; those of permissions go with IDR1. */
function gbpaBits(f: Features): number {
  const { GBPA } = r;
  return GBPA.ABORT.lowMask | (f.attrPermsOvr ? GBPA.PRIVCFG.lowMask | GBPA.INSTCFG.lowMask : 0);
}

function gerrorBits(f: Features): number {
  const { GERROR } = r;
  let mask = GERROR.CMDQ_ERR.lowMask | GERROR.EVENTQ_ABT_ERR.lowMask | GERROR.SFM_ERR.lowMask;
  if (f.pri) mask |= GERROR.PRIQ_ABT_ERR.lowMask;
  if (f.msi) {
    mask |= GERROR.MSI_CMDQ_ABT_ERR.lowMask | GERROR.MSI_EVENTQ_ABT_ERR.lowMask | GERROR.MSI_GERROR_ABT_ERR.lowMask;
    if (f.pri) mask |= GERROR.MSI_PRIQ_ABT_ERR.lowMask;
  }
  return mask;
}

/** Where index and wrap bit of the largest queue are; ERR and the overflow flags lie above. */
const INDEX = 0xf_ffff;

/** Index and wrap bit of a queue of the configured size. */
function indexMask(words: Int32Array, base: typeof r.CMDQ_BASE | typeof r.EVENTQ_BASE, max: number): number {
  return (2 << Math.min(base.LOG2SIZE.get(words, base.index), max)) - 1;
}
