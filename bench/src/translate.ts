/** Translations through a chip's port, as a device asks for them, over the streams of stream.ts. */
import { Access, Translation, type TranslationPort, TranslationStatus } from "@iommukit/core";
import type { Measured } from "./baseline.js";
import { type Case, FIRST_RID, PASID, RIDS, VA_BASE_HI } from "./stream.js";

// Constants of this module fold into the loop; imported ones are loaded each time, and C's are not.
const { OK } = TranslationStatus;
const { READ } = Access;
const HI = VA_BASE_HI;
const SSID = PASID;
const FIRST = FIRST_RID;
const LAST = RIDS - 1;

/** @returns the checksum that the C walker computes as well */
function pass(ports: readonly TranslationPort[], { order, pages }: Case, count: number, out: Translation): number {
  const mask = pages - 1;
  const sequential = order === "seq";
  const [first] = ports;
  const second = ports[ports.length - 1];
  let x = 1;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    let address: number;
    if (sequential) {
      address = (((i >>> 4) & mask) << 12) | ((i & 15) << 8);
    } else {
      x = (Math.imul(x, 1_664_525) + 1_013_904_223) | 0;
      address = (((x >>> 12) & mask) << 12) | (x & 0xff8);
    }
    const port = (i & 1) === 0 ? first : second;
    const status = port.translate(FIRST + (i & LAST), SSID, HI, address, READ, out);
    if (status !== OK) throw new Error(`translation ${i} ended with status ${status}`);
    sum = (((Math.imul(sum, 31) + out.lo) | 0) + out.hi) | 0;
  }
  return sum >>> 0;
}

/** A tenth of the run first, untimed, as the C walker does. With two ports they take turns. */
export function translate(ports: readonly TranslationPort[], test: Case, count: number): Measured {
  const out = new Translation();
  pass(ports, test, Math.ceil(count / 10), out);
  const before = process.cpuUsage();
  const checksum = pass(ports, test, count, out);
  const { user, system } = process.cpuUsage(before);
  return { rate: count / (user + system), checksum };
}
