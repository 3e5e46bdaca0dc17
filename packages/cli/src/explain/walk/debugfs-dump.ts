/**
 * Tables from Linux's debugfs files instead of a memory image: dmar_translation_struct has the root, context and PASID entry of
 * each device, domain_translation_struct the entries on the way to each page. An entry that the files do not print is not known,
 * save one thing: a table whose pages are listed has no page where none is listed.
 */
import { readFileSync } from "node:fs";
import { UsageError } from "../../errors.js";
import { hex, ridOf } from "../hex.js";
import { DmarTablesRecogniser, type TableRow } from "../kinds/dmar-tables.js";
import { type PageRow, VtdDebugfsRecogniser } from "../kinds/vtd-debugfs.js";
import type { MemoryReader } from "./memory-image.js";

const PAGE = 0xfffn;
/** RTADDR.TTM of scalable mode. */
const SCALABLE = 1n << 10n;

export class DebugfsDump implements MemoryReader {
  readonly partial = true;
  readonly #words = new Map<bigint, bigint>();
  /** Tables of which every page is listed. */
  readonly #listed = new Set<bigint>();
  readonly #rtaddr = new Map<number, bigint>();
  readonly #pasidEntries = new Map<string, readonly bigint[]>();

  /** @throws UsageError the file cannot be read, or has no such tables */
  add(path: string): void {
    const before = this.#words.size;
    const tables = new DmarTablesRecogniser((row) => this.#addRow(row));
    const pages = new VtdDebugfsRecogniser((row) => this.#addPage(row));
    for (const [n, text] of textOf(path).split("\n").entries()) {
      const line = { text, number: n + 1 };
      if (!tables.take(line, () => {})) pages.take(line, () => {});
    }
    tables.end(() => {});
    if (this.#words.size === before)
      throw new UsageError(
        `--memory ${path}: FILE@0xADDRESS is wanted for raw memory, such as raw.bin@0x80000000; as a debugfs text it has no tables`,
      );
  }

  read64(address: bigint): bigint | undefined {
    return this.#words.get(address);
  }

  absence(address: bigint): string | undefined {
    return this.#listed.has(address & ~PAGE)
      ? `stops: the dump lists no page below the entry at ${hex(address)}: not mapped`
      : undefined;
  }

  /** RTADDR of the unit that has this device; undefined when no file prints the device. */
  rtaddrOf(rid: number): bigint | undefined {
    return this.#rtaddr.get(rid);
  }

  /** The directory in front of it is in none of the files. */
  pasidEntry(rid: number, pasid: number): readonly bigint[] | undefined {
    return this.#pasidEntries.get(`${rid} ${pasid}`);
  }

  #addRow({ root, scalable, device, pairs, pasid, entry }: TableRow): void {
    const rid = ridOf(device);
    const [[rootHigh, rootLow], [contextHigh, contextLow]] = pairs;
    const devfn = rid & 0xff;
    const context = scalable
      ? ((devfn < 0x80 ? rootLow : rootHigh) & ~PAGE) + BigInt((devfn & 0x7f) * 32)
      : (rootLow & ~PAGE) + BigInt(devfn * 16);
    this.#put(root + BigInt((rid >>> 8) * 16), [rootLow, rootHigh]);
    this.#put(context, [contextLow, contextHigh]);
    this.#rtaddr.set(rid, scalable ? root | SCALABLE : root);
    if (pasid !== undefined && entry !== undefined) this.#pasidEntries.set(`${rid} ${pasid}`, entry);
  }

  #addPage({ table, iova, entries }: PageRow): void {
    // From level 5 down; levels that the tables do not have are printed as zero.
    const first = entries.findIndex((entry) => entry !== 0n);
    let at = table;
    for (const [n, entry] of entries.entries()) {
      if (n < first) continue;
      this.#listed.add(at);
      const index = (iova >> BigInt(12 + 9 * (4 - n))) & 0x1ffn;
      this.#words.set(at + index * 8n, entry);
      at = entry & 0xf_ffff_ffff_f000n;
    }
  }

  #put(address: bigint, quads: readonly bigint[]): void {
    for (const [n, value] of quads.entries()) this.#words.set(address + BigInt(8 * n), value);
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}
