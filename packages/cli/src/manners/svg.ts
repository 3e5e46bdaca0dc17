/** A vega-lite specification drawn as SVG, without a DOM. The libraries are large: they are loaded when something is drawn. */
import type { TopLevelSpec } from "vega-lite";

export async function svgOf(specification: TopLevelSpec): Promise<string> {
  const [{ compile }, { parse, View }] = await Promise.all([import("vega-lite"), import("vega")]);
  const view = new View(parse(compile(specification).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}
