/**
 * Configuration space as bytes, taken apart into named fields and put together again: for dumps of real devices (`lspci
 * -xxxx`, sysfs `config`), and to show what a model claims. Nothing is lost on the way: reserved bits and bytes that belong
 * to no capability are kept.
 */
import {
  type AnyLayout,
  bitsOf,
  type FieldValue,
  PCI_EXPRESS_CAPABILITY,
  TYPE0_HEADER,
  TYPE1_HEADER,
  TYPE2_HEADER,
} from "@iommukit/core";
import {
  CAPABILITY_FORMATS,
  EXTENDED_CAPABILITY_FORMATS,
  type FormatContext,
  type Part,
  prefix,
} from "./capabilities/formats.js";

/** One structure with its fields. */
export interface DecodedPart {
  /** Byte offset in configuration space. */
  readonly offset: number;
  readonly table: AnyLayout;
  readonly fields: Readonly<Record<string, FieldValue>>;
  /** Reserved bits that are not zero, by bit range. */
  readonly reserved: Readonly<Record<string, bigint>>;
}

/** One capability at its byte offset. */
export interface DecodedCapability {
  readonly offset: number;
  readonly id: number;
  readonly extended: boolean;
  /** Short name; undefined for ids without a table. */
  readonly name: string | undefined;
  /** Of an extended capability's structure. */
  readonly version: number | undefined;
  readonly next: number;
  readonly parts: readonly DecodedPart[];
}

/** A whole configuration space; `encodeConfig` makes the same bytes of it. */
export interface DecodedConfig {
  readonly size: number;
  readonly header: DecodedPart;
  readonly capabilities: readonly DecodedCapability[];
  /** Bytes that no table describes and that are not zero. */
  readonly rest: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
}

/** @param bytes 64, 256 or 4096: what was read, from offset 0 */
export function decodeConfig(bytes: Uint8Array): DecodedConfig {
  const image = new Image(bytes);
  const header = image.header();
  const capabilities = [...image.standard(), ...image.extended()];
  return { size: bytes.length, header, capabilities, rest: image.rest() };
}

/** The reverse of `decodeConfig`. */
export function encodeConfig(config: DecodedConfig): Uint8Array {
  const words = new Int32Array(config.size / 4);
  const bytes = new Uint8Array(words.buffer);
  for (const { offset, bytes: rest } of config.rest) bytes.set(rest, offset);
  for (const part of [config.header, ...config.capabilities.flatMap(({ parts }) => parts)]) {
    bytes.set(encodePart(part), part.offset);
  }
  return bytes;
}

function encodePart({ table, fields, reserved }: DecodedPart): Uint8Array {
  const words = new Int32Array(table.words);
  for (const [name, value] of Object.entries(fields)) table.field(name).encode(words, 0, value);
  for (const field of table.fields) {
    const value = reserved[bitsOf(field)];
    if (field.spec.kind === "reserved" && value !== undefined) field.setBig(words, 0, value);
  }
  return new Uint8Array(words.buffer, 0, table.bytes);
}

/** One dump, and which of its bytes have been explained. */
class Image {
  readonly words: Int32Array;
  /** Undefined for a header type that there is not, as from a device that does not answer. */
  readonly #headerTable: typeof TYPE0_HEADER | typeof TYPE1_HEADER | typeof TYPE2_HEADER | undefined;
  readonly #known: Uint8Array;

  constructor(private readonly bytes: Uint8Array) {
    this.words = new Int32Array(Math.ceil(bytes.length / 4));
    new Uint8Array(this.words.buffer).set(bytes);
    this.#headerTable = [TYPE0_HEADER, TYPE1_HEADER, TYPE2_HEADER][TYPE0_HEADER.HeaderLayout.get(this.words)];
    this.#known = new Uint8Array(bytes.length);
  }

  header(): DecodedPart {
    const table = this.#headerTable ?? TYPE0_HEADER;
    return this.#part(0, fitting(table, this.bytes.length) ?? table);
  }

  #part(offset: number, table: AnyLayout): DecodedPart {
    const words = new Int32Array(Math.ceil(table.bytes / 4));
    new Uint8Array(words.buffer).set(this.bytes.subarray(offset, offset + table.bytes));
    this.#known.fill(1, offset, offset + table.bytes);
    const reserved: Record<string, bigint> = {};
    for (const field of table.fields) {
      const value = field.spec.kind === "reserved" ? field.getBig(words) : 0n;
      if (value !== 0n) reserved[bitsOf(field)] = value;
    }
    return { offset, table, fields: table.decode(words), reserved };
  }

  /** A chain that loops, leaves configuration space or meets id 0xff (nothing answers) ends there. */
  standard(): DecodedCapability[] {
    if (this.#headerTable === undefined || TYPE0_HEADER.CapabilitiesList.get(this.words) === 0) return [];
    const heads: { offset: number; id: number; next: number }[] = [];
    const seen = new Set<number>();
    for (
      let offset = this.#headerTable.CapabilitiesPointer.get(this.words) & 0xfc;
      offset >= 0x40 && offset + 2 <= Math.min(256, this.bytes.length) && !seen.has(offset);
      offset = this.bytes[offset + 1] & 0xfc
    ) {
      const id = this.bytes[offset];
      if (id === 0xff) break;
      seen.add(offset);
      heads.push({ offset, id, next: this.bytes[offset + 1] & 0xfc });
    }
    const express = heads.find(({ id }) => id === 0x10);
    this.#express = express?.offset;
    return heads.map(({ offset, id, next }) => {
      const format = CAPABILITY_FORMATS.get(id);
      const limit = Math.min(
        256,
        this.bytes.length,
        ...heads.map((head) => head.offset).filter((other) => other > offset),
      );
      const parts = this.#parts(offset, limit, format?.parts);
      return { offset, id, extended: false, name: format?.name, version: undefined, next, parts };
    });
  }

  #express: number | undefined;

  extended(): DecodedCapability[] {
    const heads: { offset: number; head: number }[] = [];
    const seen = new Set<number>();
    for (let offset = 0x100; offset >= 0x100 && offset + 4 <= this.bytes.length && !seen.has(offset); ) {
      const head = this.words[offset / 4];
      if (head === 0 || head === -1) break;
      seen.add(offset);
      heads.push({ offset, head });
      offset = (head >>> 20) & 0xffc;
    }
    return heads.map(({ offset, head }) => {
      const id = head & 0xffff;
      const format = EXTENDED_CAPABILITY_FORMATS.get(id);
      const limit = Math.min(
        this.bytes.length,
        ...heads.map((other) => other.offset).filter((other) => other > offset),
      );
      const parts = this.#parts(offset, limit, format?.parts);
      const version = (head >>> 16) & 15;
      return { offset, id, extended: true, name: format?.name, version, next: (head >>> 20) & 0xffc, parts };
    });
  }

  /** The first structure has the length of its specification: a head in the middle of it is a broken chain's. */
  #parts(
    offset: number,
    limit: number,
    parts: ((context: FormatContext) => readonly Part[]) | undefined,
  ): DecodedPart[] {
    if (parts === undefined) return [];
    const { words } = this;
    const bridge = this.#headerTable === TYPE1_HEADER;
    const express = this.#express === undefined ? undefined : this.#express / 4;
    const portType = express === undefined ? undefined : PCI_EXPRESS_CAPABILITY.DevicePortType.get(words, express);
    const lanes = express === undefined ? 0 : PCI_EXPRESS_CAPABILITY.MaximumLinkWidth.get(words, express);
    return parts({ words, at: offset / 4, bridge, portType, lanes }).flatMap(([from, table]) => {
      const end = from === 0 ? (offset < 256 ? Math.min(256, this.bytes.length) : this.bytes.length) : limit;
      const fits = fitting(table, end - offset - from);
      return fits === undefined ? [] : [this.#part(offset + from, fits)];
    });
  }

  rest(): { offset: number; bytes: Uint8Array }[] {
    const pieces: { offset: number; bytes: Uint8Array }[] = [];
    for (let at = 0; at < this.bytes.length; at++) {
      if (this.#known[at] === 1 || this.bytes[at] === 0) continue;
      let end = at;
      while (end < this.bytes.length && this.#known[end] === 0) end++;
      pieces.push({ offset: at, bytes: this.bytes.slice(at, end) });
      at = end;
    }
    return pieces;
  }
}

/** What of a table is in `room` bytes. */
function fitting(table: AnyLayout, room: number): AnyLayout | undefined {
  return room >= table.bytes ? table : prefix(table, room * 8);
}
