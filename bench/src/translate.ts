/** Translations through a chip's port, as a device asks for them, over the streams of stream.ts. */
import { Access, Translation, type TranslationPort, TranslationStatus } from "@iommukit/core";
import type { Measured } from "./baseline.js";
import { type Case, FIRST_RID, PASID, RIDS, VA_BASE_HI } from "./stream.js";

/** @returns the checksum that the C walker computes as well */
function pass(ports: readonly TranslationPort[], { order, pages }: Case, count: number, out: Translation): number {
  const mask = pages - 1;
  let x = 1;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    let page: number;
    let offset: number;
    if (order === "seq") {
      page = (i >>> 4) & mask;
      offset = (i & 15) << 8;
    } else {
      x = (Math.imul(x, 1_664_525) + 1_013_904_223) | 0;
      page = (x >>> 12) & mask;
      offset = x & 0xff8;
    }
    const rid = FIRST_RID + (i & (RIDS - 1));
    const port = ports.length === 1 ? ports[0] : ports[i & 1];
    const status = port.translate(rid, PASID, VA_BASE_HI, (page << 12) | offset, Access.READ, out);
    if (status !== TranslationStatus.OK) throw new Error(`translation ${i} ended with status ${status}`);
    sum = (Math.imul(sum, 31) + out.lo + out.hi) | 0;
  }
  return sum >>> 0;
}

/** A tenth of the run first, untimed, as the C walker does. With two ports they take turns. */
export function translate(ports: readonly TranslationPort[], test: Case, count: number): Measured {
  const out = new Translation();
  pass(ports, test, count / 10, out);
  const before = process.cpuUsage();
  const checksum = pass(ports, test, count, out);
  const { user, system } = process.cpuUsage(before);
  return { rate: count / (user + system), checksum };
}
