/** Every field table of the packages by name: what `--as` can name, and what a line may start with. */
import * as core from "@iommukit/core";
import * as smmuv3 from "@iommukit/iommu-smmuv3";
import * as vtd from "@iommukit/iommu-vtd";
import * as type1 from "@iommukit/vfio-type1";

export interface NamedTable {
  /** "vtd", "smmuv3", "pci", "vfio". */
  readonly family: string;
  readonly name: string;
  readonly table: core.AnyLayout;
}

function tablesOf(family: string, module: object): NamedTable[] {
  return Object.entries(module).flatMap(([name, value]): NamedTable[] => {
    if (value instanceof core.LayoutTable) return [{ family, name, table: value as unknown as core.AnyLayout }];
    return name === "FE" || name === "IE" || name === "PE"
      ? Object.entries(value as object).map(([part, table]) => ({
          family,
          name: `${name}${part}`,
          table: table as core.AnyLayout,
        }))
      : [];
  });
}

export const TABLES: readonly NamedTable[] = [
  ...tablesOf("smmuv3", smmuv3),
  ...tablesOf("vtd", vtd),
  ...tablesOf("pci", core),
  ...tablesOf("vfio", type1),
];

const byName = new Map<string, NamedTable>();
for (const named of TABLES) {
  for (const key of [`${named.family}.${named.name}`, named.name, named.table.name]) {
    if (!byName.has(key.toLowerCase())) byName.set(key.toLowerCase(), named);
  }
}

/** By export name ("STE", "PASID_ENTRY"), the structure's own name, or "vtd.CAP"; case does not matter. */
export function tableNamed(name: string): NamedTable | undefined {
  return byName.get(name.toLowerCase());
}
