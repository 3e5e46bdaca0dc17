/** Lines of files and of standard input as they come, in constant memory. */
import { createReadStream } from "node:fs";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { UsageError } from "../errors.js";

/** A "line" longer than this is cut: it is no text, and must not fill the memory. */
const LONGEST = 1 << 16;
/** Bytes that are read at a time: what is made of them should not live long enough to be copied by the garbage collector. */
const PIECE = 1 << 17;
const NEWLINE = 10;
const RETURN = 13;

/**
 * @param name a path, ending in .gz when compressed, or "-" for standard input
 * @param line takes a line without its end, one character a byte
 */
export function readLines(name: string, stdin: Readable, line: (text: string) => void): Promise<void> {
  return readPieces(name, stdin, (bytes) => {
    const text = bytes.toString("latin1");
    let from = 0;
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", from)) {
      line(text.charCodeAt(at - 1) === RETURN ? text.slice(from, at - 1) : text.slice(from, at));
      from = at + 1;
    }
    if (from < text.length) line(text.slice(from));
  });
}

/**
 * The same in bytes, which cost less than strings: pieces of whole lines, of which only the last line of all may lack its end.
 * @param piece takes a piece, and lets the next one wait
 */
export async function readPieces(
  name: string,
  stdin: Readable,
  piece: (bytes: Buffer) => Promise<void> | void,
): Promise<void> {
  let rest: Buffer = Buffer.alloc(0);
  try {
    for await (const chunk of open(name, stdin)) {
      const bytes = rest.length === 0 ? (chunk as Buffer) : Buffer.concat([rest, chunk as Buffer]);
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      if (end > 0) await piece(bytes.subarray(0, end));
      rest = bytes.subarray(end, end + LONGEST);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new UsageError(`cannot read ${name}: ${(error as Error).message}`, { cause: error });
  }
  if (rest.length > 0) await piece(rest);
}

function open(name: string, stdin: Readable): Readable {
  if (name === "-") {
    if ("isTTY" in stdin && stdin.isTTY)
      process.stderr.write("iommukit: reading what you type or paste; Ctrl-D ends it, --help says what else\n");
    return stdin;
  }
  const file = createReadStream(name, { highWaterMark: PIECE });
  if (!name.endsWith(".gz")) return file;
  const plain = createGunzip({ chunkSize: PIECE });
  file.on("error", (error) => plain.destroy(error));
  return file.pipe(plain);
}
