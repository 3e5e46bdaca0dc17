import { describe, expect, it } from "vitest";
import { example as mapAndDma } from "../src/01-map-and-dma.js";
import { example as bindAndFault } from "../src/02-bind-and-fault.js";
import { example as domainsAndBackends } from "../src/03-domains-and-backends.js";
import { example as swapTheBackend } from "../src/04-swap-the-backend.js";
import { example as compareBackends } from "../src/05-compare-backends.js";
import { example as ownDevice } from "../src/06-own-device.js";
import { example as exploreYourDriver } from "../src/08-explore-your-driver.js";
import { example as ownIommu } from "../src/09-own-iommu.js";
import { example as ownSvaDevice } from "../src/10-own-sva-device.js";

const EXAMPLES = {
  "01-map-and-dma": mapAndDma,
  "02-bind-and-fault": bindAndFault,
  "03-domains-and-backends": domainsAndBackends,
  "04-swap-the-backend": swapTheBackend,
  "05-compare-backends": compareBackends,
  "06-own-device": ownDevice,
  "08-explore-your-driver": exploreYourDriver,
  "09-own-iommu": ownIommu,
  "10-own-sva-device": ownSvaDevice,
};

describe("examples", () => {
  it.each(Object.entries(EXAMPLES))("%s prints what is committed", async (name, example) => {
    const lines: string[] = [];
    await example((line) => lines.push(line));
    await expect(`${lines.join("\n")}\n`).toMatchFileSnapshot(`../expected/${name}.txt`);
  });
});
