/** `node ratios.js BACKEND COUNT CASE`: the model beside C as JSON, for the regression gate. */
import { Baseline } from "./baseline.js";
import { compare } from "./compare.js";
import { CASES } from "./stream.js";

const [backend, count, name] = process.argv.slice(2);
const arch = backend === "vtd" ? "vtd" : "smmuv3";
const test = CASES.find((each) => each.name === name);
if (test === undefined) throw new RangeError(`no case ${name}`);
const baseline = new Baseline();
try {
  console.log(JSON.stringify(compare(arch, test, Number(count), baseline)));
} finally {
  baseline.close();
}
