/** What every chip tells of the end of a translation. */
import { Access, type Translation, TranslationStatus } from "../bus/transaction.js";
import { join64, physical } from "../memory/address.js";
import type { TraceChannel } from "./tracer.js";

const { OK } = TranslationStatus;

/** @param out the answer; counts when `status` is OK */
export function emitTranslationEnd(
  ends: TraceChannel<"translate:completed">,
  unit: string,
  rid: number,
  pasid: number,
  hi: number,
  lo: number,
  access: number,
  status: number,
  out: Translation,
): void {
  ends.emit({
    unit,
    rid,
    pasid,
    address: join64(hi, lo),
    access,
    kind: (access & Access.TRANSLATED) !== 0 ? "translated" : "untranslated",
    status,
    pa: status === OK ? physical(out.hi, out.lo) : 0,
  });
}
