/** The items of a backend's `spec/`: every table that it exports, under the names by which the sources call it. */
import { type AnyLayout, type Field, LayoutTable } from "@iommukit/core";

export interface Table {
  /** As the sources say it: "STE", "FE.CTL". */
  readonly name: string;
  /** File of `spec/`, without its ending. */
  readonly file: string;
  readonly layout: AnyLayout;
  /** Fields that are not reserved. */
  readonly fields: readonly Field[];
}

export type Modules = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

const plain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;

/**
 * @param modules of one `spec/` folder. A table that stands in a list or under a second name counts once, by its own name.
 * @param made tables that functions of those modules make
 */
export function tablesOf(modules: Modules, made: Readonly<Record<string, AnyLayout>>): Table[] {
  const found = new Map<AnyLayout, Table>();
  const add = (value: unknown, name: string, file: string): void => {
    if (value instanceof LayoutTable) {
      const layout: AnyLayout = value;
      const fields = layout.fields.filter(({ spec, access }) => spec.kind !== "reserved" && access !== "res0");
      if (!found.has(layout)) found.set(layout, { name, file, layout, fields });
    } else if (plain(value)) {
      for (const [key, inner] of Object.entries(value)) add(inner, `${name}.${key}`, file);
    }
  };
  const exported = Object.entries(modules).map(([path, values]) => [path, Object.entries(values)] as const);
  const fileOf = (path: string) => /([^/]+)\.ts$/.exec(path)?.[1] ?? "";
  for (const grouped of [false, true])
    for (const [path, entries] of exported)
      for (const [name, value] of entries) if (plain(value) === grouped) add(value, name, fileOf(path));
  for (const [name, layout] of Object.entries(made)) add(layout, name, "registers");
  return [...found.values()];
}
