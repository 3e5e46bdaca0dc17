/** Whether a program will load the library: what its file says. Static programs, Go's and set-user-id ones will not. */
import { accessSync, closeSync, constants, openSync, readSync, realpathSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { UsageError } from "../errors.js";

/** elf(5): ELFCLASS64, PT_INTERP. */
const CLASS_64 = 2;
const PT_INTERP = 3;
const SETUID = 0o6000;
/** The note that Go's linker leaves near the start of every program. */
const GO_BUILD_ID = "Go build ID";
const HEAD = 65536;
const ADVICE =
  "it makes system calls past the C library, which only seccomp user notification could catch (docs/run.md)";

/** @returns the path of the program. @throws UsageError there is none, or it cannot be served */
export function checkedExecutable(name: string): string {
  const path = name.includes("/") ? name : find(name);
  if (path === undefined || !statSync(path, { throwIfNoEntry: false })?.isFile())
    throw new UsageError(`there is no program ${name}`);
  const reason = obstacle(path, name);
  if (reason !== undefined) throw new UsageError(reason);
  return path;
}

/** Why the program would not load the library; undefined: nothing is known against it. */
function obstacle(path: string, name: string): string | undefined {
  if ((statSync(path).mode & SETUID) !== 0)
    return `${name} is set-user-id: the loader ignores LD_PRELOAD for it; run a copy without the bit`;
  const head = headOf(path);
  if (head.subarray(0, 2).toString("latin1") === "#!") return obstacleOfScript(head, name);
  if (head.subarray(0, 4).toString("latin1") !== "\x7fELF") return undefined;
  if (head[4] !== CLASS_64) return `${name} is a 32-bit program: the library is built for 64 bits`;
  if (head.includes(GO_BUILD_ID)) return `${name} is a Go program: ${ADVICE}`;
  const loader = interpreter(head);
  if (loader === undefined) return `${name} is statically linked: ${ADVICE}`;
  if (loader.includes("musl")) return `${name} is linked against musl: the library needs the GNU C library`;
  return undefined;
}

/** A script is as good as the program that reads it. */
function obstacleOfScript(head: Buffer, name: string): string | undefined {
  const [program] = head.toString("latin1", 2, head.indexOf("\n")).trim().split(/\s+/);
  if (!statSync(program, { throwIfNoEntry: false })?.isFile()) return undefined;
  return obstacle(program, `${name} runs ${program}, which`);
}

function find(name: string): string | undefined {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .map((directory) => join(directory, name))
    .find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function headOf(path: string): Buffer {
  const fd = openSync(realpathSync(path), "r");
  const head = Buffer.alloc(HEAD);
  const length = readSync(fd, head, 0, HEAD, 0);
  closeSync(fd);
  return head.subarray(0, length);
}

/** The dynamic loader that a 64-bit little-endian program names (e_phoff, e_phentsize, e_phnum; p_offset, p_filesz). */
function interpreter(head: Buffer): string | undefined {
  const [offset, size, count] = [Number(head.readBigUInt64LE(32)), head.readUInt16LE(54), head.readUInt16LE(56)];
  for (let at = offset; at < offset + count * size && at + 40 <= head.length; at += size) {
    if (head.readUInt32LE(at) !== PT_INTERP) continue;
    const text = Number(head.readBigUInt64LE(at + 8));
    return head.toString("latin1", text, text + Number(head.readBigUInt64LE(at + 32)));
  }
  return undefined;
}
