/** Domain-ids of one unit: tags of what its caches hold. The lowest free one is given out, as Linux's ida does. */
import { IommuError } from "@iommukit/core";

/** Reserved: caching mode tags absent entries with it. */
const RESERVED_DID = 0;
/** FLPT_DEFAULT_DID: pass-through and every bound process; PASIDs keep those apart. */
export const FLPT_DEFAULT_DID = 1;

export class DomainIds {
  readonly #used = new Set<number>([RESERVED_DID, FLPT_DEFAULT_DID]);

  constructor(private readonly count: number) {}

  /** @throws IommuError ENOSPC */
  alloc(): number {
    for (let did = FLPT_DEFAULT_DID + 1; did < this.count; did++) {
      if (this.#used.has(did)) continue;
      this.#used.add(did);
      return did;
    }
    throw new IommuError("ENOSPC", `all ${this.count} domain-ids are in use`);
  }

  free(did: number): void {
    if (did > FLPT_DEFAULT_DID) this.#used.delete(did);
  }
}
