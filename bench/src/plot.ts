/** `node plot.js ROWS.json OUT.svg`: what `npm run bench -- --part scale --json` measured, as a picture. */
import { readFileSync, writeFileSync } from "node:fs";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { ScaleRow } from "./scale.js";

const [input, output] = process.argv.slice(2);
const { scale }: { scale: ScaleRow[] } = JSON.parse(readFileSync(input, "utf8"));
const units = [...new Set(scale.map(({ unit }) => unit))];
const spec: TopLevelSpec = {
  $schema: "https://vega.github.io/schema/vega-lite/v6.json",
  background: "white",
  columns: 2,
  resolve: { scale: { color: "independent" } },
  concat: units.map((unit) => ({
    width: 360,
    height: 220,
    data: { values: scale.filter((row) => row.unit === unit) },
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "size", type: "quantitative", title: unit, scale: { type: "log" } },
      y: { field: "nanoseconds", type: "quantitative", title: "ns of CPU time", scale: { zero: true } },
      color: {
        field: "operation",
        type: "nominal",
        title: null,
        legend: { orient: "bottom", columns: 1, labelLimit: 300 },
      },
    },
  })),
};
const view = new View(parse(compile(spec).spec), { renderer: "none" });
writeFileSync(output, await view.toSVG());
view.finalize();
