/** What the `config` of a device script says of the unit that it was written for. */
import { number } from "./values.js";

/** Keys of a case's `config` that say nothing of the unit. */
export const COMMON_CONFIG: readonly string[] = ["note", "mmio_base"];

type Config = Readonly<Record<string, unknown>>;
interface NamedFields {
  readonly fields: readonly { readonly name: string }[];
}

/** Keys of `config` that are neither known by themselves nor fields of one of the tables. */
export function unknownKeys(config: Config, known: readonly string[], tables: readonly NamedFields[]): string[] {
  const fields = tables.flatMap((table) => table.fields.map(({ name }) => name));
  return Object.keys(config).filter(
    (key) => ![...COMMON_CONFIG, ...known].includes(key) && !fields.includes(key.toUpperCase()),
  );
}

/** What `config` says of the fields of an identification register by their names, in any case: `{ ats: 1, fs5lp: 1 }`. */
export function namedFields(config: Config, table: NamedFields): Record<string, number> {
  const values = new Map(Object.entries(config).map(([key, value]) => [key.toUpperCase(), value]));
  const given = table.fields.filter(({ name }) => values.has(name));
  return Object.fromEntries(given.map(({ name }) => [name, number(values.get(name))]));
}
