/** Linux's AMD-Vi messages: with the device in brackets or as the printing device, on one line or, before 4.9, on two. */
import { canonicalBdf, parseHex } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { amdFault } from "./amd-fault-record.js";

const EVENT = /\b(IO_PAGE_FAULT|INVALID_DEVICE_REQUEST)((?: [a-z]+=[0-9a-fx:.]+)+)\]/i;
const HEAD = /AMD-Vi: Event logged \[\s*$/;
const PRINTER = /\b([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): AMD-Vi: Event logged/i;

export class AmdRecogniser implements Recogniser {
  #head: string | undefined;

  take(line: Line, emit: Emit): boolean {
    if (HEAD.test(line.text)) {
      this.#head = line.text;
      return true;
    }
    const match = EVENT.exec(line.text);
    if (match === null || (this.#head === undefined && !line.text.includes("AMD-Vi"))) return false;
    const raw = this.#head === undefined ? [line.text] : [this.#head, line.text];
    this.#head = undefined;
    const values = new Map(
      match[2]
        .trim()
        .split(" ")
        .map((pair) => pair.split("=") as [string, string]),
    );
    const number = (name: string) => parseHex(values.get(name) ?? "");
    const [address, flags] = [number("address"), number("flags")];
    if (address === undefined || flags === undefined) return false;
    const bdf = values.get("device") ?? PRINTER.exec(line.text)?.[1];
    const pasid = number("pasid");
    const record = amdFault(
      line,
      {
        event: match[1],
        device: bdf === undefined ? undefined : canonicalBdf(bdf),
        domain: values.get("domain"),
        pasid: pasid === undefined || pasid === 0n ? undefined : Number(pasid),
        address,
        flags: Number(flags),
      },
      raw,
    );
    if (record !== undefined) emit(record);
    return record !== undefined;
  }
}
