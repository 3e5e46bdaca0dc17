/** `inject` of a device script: register fields that change from the hardware's side. */
import type { RegisterFile } from "@iommukit/core";

/** The peers have one fault record, and call it FRCD, FRCD[0] or FRCD_HI; ours are FRCD0_LO and FRCD0_HI. */
const FAULT_RECORD = /^FRCD\[?(\d*)\]?(?:_LO|_HI)?$/;
/** "FSTS.PFO=1", "GERROR.CMDQ_ERR toggled", "toggle GERROR.CMDQ_ERR". */
const CHANGE = /^(?:toggle\s+)?([\w[\]]+)\.(\w+)\s*(?:=\s*(\w+)|toggled?)?$/i;

/**
 * @param what changes, with commas between them
 * @returns what is not known in it; "" when all is done
 */
export function inject(file: RegisterFile, what: string): string {
  for (const part of what.split(",")) {
    const [, name, field, value] = CHANGE.exec(part.trim()) ?? [];
    const stem = name?.replace(FAULT_RECORD, (_, index: string) => `FRCD${index || 0}`);
    const register = file.registers.find(
      (each) => [stem, `${stem}_LO`, `${stem}_HI`].includes(each.name) && each.fields.some((of) => of.name === field),
    );
    const toggles = /toggle/i.test(part);
    if (register === undefined || (value === undefined) !== toggles) return `no register field ${part.trim()}`;
    const target = register.field(field);
    const now = toggles ? target.get(file.words, register.index) ^ 1 : Number(value);
    if (!Number.isSafeInteger(now)) return `no value in ${part.trim()}`;
    target.set(file.words, register.index, now);
  }
  return "";
}
