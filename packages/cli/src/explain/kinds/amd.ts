/** Linux's AMD-Vi messages: with the device in brackets or as the printing device, on one line or, before 4.9, on two. */
import { canonicalBdf, parseHex } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { amdEvent, amdEventOfWords } from "./amd-event-record.js";

const EVENT = /(?:\[|^|\s)([A-Z][A-Z_]+)((?:,? [a-z_]+=[0-9a-fx:.]+)+)\]/i;
const WORDS =
  /AMD-Vi: Event logged \[UNKNOWN.*event\[0\]=0x([0-9a-f]{8}),? event\[1\]=0x([0-9a-f]{8}),? event\[2\]=0x([0-9a-f]{8}),? event\[3\]=0x([0-9a-f]{8})/i;
const HEAD = /AMD-Vi: Event logged \[\s*$/;
const PRINTER = /\b([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): AMD-Vi: Event logged/i;

export class AmdRecogniser implements Recogniser {
  #head: string | undefined;

  take(line: Line, emit: Emit): boolean {
    if (HEAD.test(line.text)) {
      this.#head = line.text;
      return true;
    }
    const words = WORDS.exec(line.text);
    const unknown = words === null ? undefined : amdEventOfWords(line, words.slice(1));
    if (unknown !== undefined) {
      emit(unknown);
      return true;
    }
    const match = EVENT.exec(line.text);
    if (match === null || (this.#head === undefined && !line.text.includes("AMD-Vi"))) return false;
    const raw = this.#head === undefined ? [line.text] : [this.#head, line.text];
    this.#head = undefined;
    const values = new Map(
      match[2]
        .replaceAll(",", "")
        .trim()
        .split(" ")
        .map((pair) => pair.split("=") as [string, string]),
    );
    const number = (name: string) => parseHex(values.get(name) ?? "");
    const flags = number("flags");
    const bdf = values.get("device") ?? PRINTER.exec(line.text)?.[1];
    const pasid = number("pasid");
    const record = amdEvent(
      line,
      {
        event: match[1],
        device: bdf === undefined ? undefined : canonicalBdf(bdf),
        pasid: pasid === undefined || pasid === 0n ? undefined : Number(pasid),
        address: number("address") ?? number("gpa") ?? number("spa"),
        flags: flags === undefined ? undefined : Number(flags),
      },
      raw,
    );
    if (record !== undefined) emit(record);
    return record !== undefined;
  }
}
