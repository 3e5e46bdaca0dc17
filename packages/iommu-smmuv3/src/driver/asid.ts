/**
 * ASIDs and VMIDs. An address space that a CPU uses is known to the SMMU under the CPU's ASID, which is pinned meanwhile (B12); DMA
 * domains get ASIDs of their own from the same numbers. When a process comes with an ASID that a DMA domain has, the domain moves
 * to another one: the process cannot.
 */
import { IommuError, type Kernel, type Mm } from "@iommukit/core";

interface Pin {
  readonly asid: number;
  references: number;
}

/** arch/arm64/mm/context.c: the ASIDs of processes. One for all SMMUs of a machine. */
export class MmContexts {
  static readonly #all = new WeakMap<Kernel, MmContexts>();
  readonly #pins = new Map<Mm, Pin>();
  readonly #asids: Identifiers<Mm>;

  /** @param bits of the CPUs' ASIDs */
  constructor(
    private readonly bits: number,
    private readonly cpus = 1,
  ) {
    this.#asids = new Identifiers("pinned ASID", bits);
  }

  static of(kernel: Kernel, bits: number): MmContexts {
    const contexts = MmContexts.#all.get(kernel) ?? new MmContexts(bits);
    MmContexts.#all.set(kernel, contexts);
    return contexts;
  }

  /** ASIDs that may be pinned: one must be left for each CPU, one for the kernel, and 0 is nobody's. */
  get limit(): number {
    return 2 ** this.bits - this.cpus - 2;
  }

  get pinned(): number {
    return this.#pins.size;
  }

  /** arm64_mm_context_get: the ASID of an address space, which stays its own until `put`. @throws IommuError ENOSPC */
  get(mm: Mm): number {
    const known = this.#pins.get(mm);
    if (known) {
      known.references++;
      return known.asid;
    }
    if (this.#pins.size >= this.limit) {
      throw new IommuError("ENOSPC", `${mm.owner}: ${this.#pins.size} ASIDs of ${this.bits} bits are pinned already`);
    }
    const asid = this.#asids.alloc(mm);
    this.#pins.set(mm, { asid, references: 1 });
    return asid;
  }

  put(mm: Mm): void {
    const pin = this.#pins.get(mm);
    if (!pin || --pin.references > 0) return;
    this.#pins.delete(mm);
    this.#asids.free(pin.asid);
  }
}

/** Identifiers from 1 to 2^bits - 1, lowest first, each with its owner. */
export class Identifiers<Owner> {
  readonly #owners = new Map<number, Owner>();
  /** All below it have owners. */
  #lowest = 1;

  constructor(
    private readonly what: string,
    private readonly bits: number,
  ) {}

  /** @throws IommuError ENOSPC */
  alloc(owner: Owner): number {
    while (this.#owners.has(this.#lowest)) this.#lowest++;
    const id = this.#lowest;
    if (id < 2 ** this.bits) {
      this.#owners.set(id, owner);
      return id;
    }
    throw new IommuError("ENOSPC", `all ${2 ** this.bits - 1} ${this.what}s are in use`);
  }

  owner(id: number): Owner | undefined {
    return this.#owners.get(id);
  }

  /** Gives an identifier to a new owner, whoever has it now. */
  take(id: number, owner: Owner): void {
    this.#owners.set(id, owner);
  }

  free(id: number): void {
    this.#owners.delete(id);
    this.#lowest = Math.min(this.#lowest, id);
  }
}
