/** Reads a vector file: JSON, JSON lines or a function trace's text, plain or gzipped, told apart by content. */
import { readFileSync } from "node:fs";
import { basename, resolve } from "node:path";
import { gunzipSync } from "node:zlib";
import { UsageError } from "./tool.js";

export interface LoadedFile {
  readonly path: string;
  readonly name: string;
  /** A JSON file's value; otherwise the same as `records`. */
  readonly document: unknown;
  /** One value per line of JSON lines, one string per line of a trace; a JSON file's array, or its one value. */
  readonly records: readonly unknown[];
}

/** The list of that name in the file's document; empty where there is none. Its elements may still be anything. */
export function listIn<T>({ document }: LoadedFile, name: string): readonly (Partial<T> | null)[] {
  const list: unknown = (document as Readonly<Record<string, unknown>> | null)?.[name];
  return Array.isArray(list) ? (list as Partial<T>[]) : [];
}

/** A function trace has tracefs' header, that of `trace-cmd report`, or an event; it may begin with part of a line. */
const TRACE = /^(?:# tracer:|cpus=\d|\s*[^\s[{"].*[-\s]\d+\s+(?:\(.*?\)\s+)?\[\d+\]\s.*\d:\s)/m;

/** `path` is relative to the directory that the user is in, even where npm changed it. */
export function loadFile(path: string): LoadedFile {
  const text = readText(path);
  const name = basename(path);
  if (TRACE.test(text)) {
    const lines = text.split("\n");
    return { path, name, document: lines, records: lines };
  }
  const document = tryParse(text);
  if (document !== undefined) return { path, name, document, records: Array.isArray(document) ? document : [document] };
  const records = parseLines(path, text);
  return { path, name, document: records, records };
}

function readText(path: string): string {
  try {
    const bytes = readFileSync(resolve(process.env.INIT_CWD ?? "", path));
    return (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString("utf8");
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function parseLines(path: string, text: string): unknown[] {
  const records: unknown[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const record = tryParse(line);
    if (record === undefined) throw new UsageError(`cannot read ${path}: line ${index + 1} is not JSON`);
    records.push(record);
  }
  if (records.length === 0) throw new UsageError(`cannot read ${path}: it is empty`);
  return records;
}
