/** 100,000 lines of a log, one in ten about an IOMMU, in under two seconds of processor time: others may use the machine as well. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { Explainer } from "../../src/explain/explainer.js";
import { renderRecord } from "../../src/explain/render.js";
import { Why } from "../../src/explain/why.js";

const faults = (
  JSON.parse(readFileSync(new URL("./corpus/vtd-faults.json", import.meta.url), "utf8")) as { input: string[] }[]
).flatMap(({ input }) => input);

it("explains a log of 100,000 mixed lines in under 2 s of processor time and takes the IOMMU's lines only", () => {
  const log = Array.from({ length: 100_000 }, (_, n) =>
    n % 10 === 0
      ? faults[(n / 10) % faults.length]
      : `[ ${n}.123456] usb 1-1: new high-speed USB device number ${n} using xhci_hcd`,
  );
  const why = new Why();
  let length = 0;
  const started = process.cpuUsage();
  const explainer = new Explainer((record) => {
    length += renderRecord(record, undefined, false).length;
    why.add(record);
  });
  for (const line of log) explainer.line(line);
  explainer.end();
  const { user, system } = process.cpuUsage(started);
  expect((user + system) / 1e6).toBeLessThan(2);
  expect(explainer.taken).toBeLessThanOrEqual(10_000);
  expect(explainer.taken).toBeGreaterThan(9_500);
  expect(length).toBeGreaterThan(100_000);
});
