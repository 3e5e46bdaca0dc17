/** A vega-lite specification drawn as SVG, without a DOM. The libraries are large: they are loaded when something is drawn. */
export async function svgOf(specification: object): Promise<string> {
  const [{ compile }, { parse, View }] = await Promise.all([import("vega-lite"), import("vega")]);
  const { spec } = compile(specification as Parameters<typeof compile>[0]);
  const view = new View(parse(spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}
