/** `node ratios.js COUNT CASE...`: the ratios of these cases as JSON, for the regression gate. */
import { Baseline } from "./baseline.js";
import { compare } from "./compare.js";
import { CASES } from "./stream.js";

const [count, ...names] = process.argv.slice(2);
const baseline = new Baseline();
try {
  const cases = CASES.filter(({ name }) => names.includes(name));
  console.log(JSON.stringify(cases.flatMap((each) => compare(each, Number(count), baseline))));
} finally {
  baseline.close();
}
