import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { importsOf, rules, type SourceFile, violations } from "./layers.js";

const root = join(import.meta.dirname, "..");

function sources(): SourceFile[] {
  const names = readdirSync(join(root, "packages")).flatMap((name) =>
    readdirSync(join(root, "packages", name, "src"), { recursive: true, encoding: "utf8" }).map(
      (file) => `packages/${name}/src/${file}`,
    ),
  );
  return names
    .filter((path) => path.endsWith(".ts"))
    .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
}

describe("the packages", () => {
  const files = sources();

  it.each(rules.map((rule) => [rule.says, rule] as const))("%s", (_says, rule) => {
    expect(violations(files, [rule])).toEqual([]);
  });

  it("are all there", () => {
    expect(new Set(files.map((file) => file.path.split("/")[1]))).toContain("iommu-vtd");
  });
});

describe("violations", () => {
  const smmu = "packages/iommu-smmuv3/src";
  const broken = (path: string, specifier: string) =>
    violations([{ path, text: `import { x } from "${specifier}";\n` }]).map((line) =>
      line.slice(line.indexOf(": ") + 2),
    );

  it.each([
    [`${smmu}/hardware/table-walk.ts`, "../driver/domain.js", "hardware/ never imports driver/"],
    [`${smmu}/driver/domain.ts`, "../hardware/table-walk.js", "driver/ never imports hardware/"],
    [
      `${smmu}/driver/domain.ts`,
      "../plugin.js",
      "hardware/ and driver/ never import plugin.ts or index.ts, where both meet",
    ],
    [
      `${smmu}/presets.ts`,
      "./hardware/table-walk.js",
      "a backend file outside hardware/ and driver/ imports neither, except plugin.ts and index.ts",
    ],
    [`${smmu}/spec/commands.ts`, "../presets.js", "spec/ imports only core and spec/"],
    [`${smmu}/spec/commands.ts`, "tsyringe", "spec/ imports only core and spec/"],
    [`${smmu}/index.ts`, "@iommukit/iommu-vtd", "a package other than cli imports only core and itself"],
    [
      "packages/vfio-type1/src/group.ts",
      "../../pci-device/src/index.js",
      "a package other than cli imports only core and itself",
    ],
    ["packages/core/src/index.ts", "@iommukit/pci-device", "core imports none of our packages"],
    ["packages/core/src/index.ts", "./testing/index.js", "core outside testing/ never imports core/src/testing"],
    ["packages/core/src/testing/fakes.ts", "node:fs", "only cli and host-linux import node: modules"],
    ["packages/pci-device/src/index.ts", "fs", "only cli and host-linux import node: modules"],
    ["packages/cli/src/bin.ts", "../../../tools/layers.js", "a package's sources stay in packages/"],
  ])("reports that %s imports %s", (path, specifier, says) => {
    expect(broken(path, specifier)).toEqual([says]);
  });

  it.each([
    [`${smmu}/plugin.ts`, "./hardware/smmuv3-hardware.js"],
    [`${smmu}/hardware/table-walk.ts`, "../spec/page-table.js"],
    [`${smmu}/spec/commands.ts`, "@iommukit/core"],
    ["packages/core/src/testing/fakes.ts", "../memory/address.js"],
    ["packages/host-linux/src/maps.ts", "node:fs"],
    ["packages/cli/src/bin.ts", "@iommukit/iommu-vtd"],
  ])("lets %s import %s", (path, specifier) => {
    expect(broken(path, specifier)).toEqual([]);
  });
});

describe("importsOf", () => {
  it("finds every form of import and skips comments", () => {
    const text = `
      import "a";
      import type { B } from "b";
      import {
        c,
      } from 'c';
      export * from "d";
      const e = await import("e");
      type F = import("f").F;
      // import "g";
      /** import "h"; */`;
    expect(importsOf(text)).toEqual(["a", "b", "c", "d", "e", "f"]);
  });
});
