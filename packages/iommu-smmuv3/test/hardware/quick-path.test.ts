import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { DATA, machine } from "./machine.js";

const { READ, WRITE } = Access;
const VA = 0x4000_0000n;

/** Every answer about a handful of pages, each asked twice: past the TLB and out of it. */
function answers(listened: boolean): unknown[] {
  const m = machine();
  m.stage1(0);
  const leaves: Record<string, string | boolean>[] = [
    {},
    { AP: "readOnly" },
    { AP: "readOnly", DBM: true },
    { AF: false },
    { nG: false },
    { AP: "el1ReadWrite" },
  ];
  for (const [i, leaf] of leaves.entries()) {
    m.map(VA + BigInt(i) * 4096n, DATA + i * 4096, leaf);
  }
  const all: unknown[] = [];
  const ask = () => {
    for (let page = 0n; page <= BigInt(leaves.length); page++) {
      for (const access of [READ, READ, WRITE, READ | WRITE]) {
        const status = m.translate(VA + page * 4096n + 0x123n, access);
        all.push(status === TranslationStatus.OK ? [m.pa, m.out.shift, m.out.perms] : status);
      }
    }
  };
  // With a listener nothing takes the quick path.
  if (listened) m.traced(ask);
  else ask();
  return [...all, m.events()];
}

describe("the quick path", () => {
  it("answers, and records, what the whole way does", () => {
    expect(answers(false)).toEqual(answers(true));
  });
});
