/** Lines of files and of standard input as they come, in constant memory. */
import { createReadStream } from "node:fs";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { UsageError } from "../errors.js";

/** A "line" longer than this is cut: it is no text, and must not fill the memory. */
const LONGEST = 1 << 16;
/** Bytes that are read at a time. */
const PIECE = 1 << 18;

/**
 * @param name a path, ending in .gz when compressed, or "-" for standard input
 * @param piece runs between two pieces of the input, so that `line` can leave work to it
 */
export async function readLines(
  name: string,
  stdin: Readable,
  line: (text: string) => void,
  piece?: () => Promise<void>,
): Promise<void> {
  const stream = open(name, stdin);
  stream.setEncoding("latin1");
  let rest = "";
  try {
    for await (const chunk of stream) {
      const text = rest + (chunk as string);
      let from = 0;
      for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", from)) {
        line(text.charCodeAt(at - 1) === 13 ? text.slice(from, at - 1) : text.slice(from, at));
        from = at + 1;
      }
      rest = text.slice(from, from + LONGEST);
      await piece?.();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new UsageError(`cannot read ${name}: ${(error as Error).message}`, { cause: error });
  }
  if (rest !== "") line(rest);
}

function open(name: string, stdin: Readable): Readable {
  if (name === "-") return stdin;
  const file = createReadStream(name, { highWaterMark: PIECE });
  if (!name.endsWith(".gz")) return file;
  const plain = createGunzip({ chunkSize: PIECE });
  file.on("error", (error) => plain.destroy(error));
  return file.pipe(plain);
}
