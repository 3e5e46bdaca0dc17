/** Whether a program will load the library: what its file says. Static programs, Go's and set-user-id ones will not. */
import { accessSync, closeSync, constants, openSync, readSync, realpathSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { UsageError } from "../errors.js";

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
  const { mode } = statSync(path);
  if ((mode & SETUID) !== 0)
    throw new UsageError(`${name} is set-user-id: the loader ignores LD_PRELOAD for it; run a copy without the bit`);
  const head = headOf(path);
  if (head.subarray(0, 4).toString("latin1") !== "\x7fELF") return path;
  if (head.includes(GO_BUILD_ID)) throw new UsageError(`${name} is a Go program: ${ADVICE}`);
  if (!hasInterpreter(head)) throw new UsageError(`${name} is statically linked: ${ADVICE}`);
  return path;
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

/** elf(5), 64 bits, little endian: e_phoff, e_phentsize, e_phnum. */
function hasInterpreter(head: Buffer): boolean {
  const [offset, size, count] = [Number(head.readBigUInt64LE(32)), head.readUInt16LE(54), head.readUInt16LE(56)];
  for (let i = 0; i < count; i++) {
    const at = offset + i * size;
    if (at + 4 <= head.length && head.readUInt32LE(at) === PT_INTERP) return true;
  }
  return false;
}
