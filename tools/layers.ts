/** The import rules of the repository as data, and the check that applies them to a set of source files. */
import { builtinModules } from "node:module";
import { posix } from "node:path";

const builtins = new Set(builtinModules);

export interface SourceFile {
  /** Relative to the repository: "packages/core/src/index.ts". */
  readonly path: string;
  readonly text: string;
}

export interface Rule {
  /** The sentence that a violation breaks. */
  readonly says: string;
  /** The files the rule is about. */
  readonly files: RegExp;
  /** What those files import: a source path for our own code, else the module name, as "node:fs" or "tsyringe". */
  readonly forbids: (target: string, from: string) => boolean;
}

const inside = (path: string) => path.split("/src/")[0];
const matches = (pattern: RegExp) => (target: string) => pattern.test(target);
const backendRoot = /^packages\/iommu-[^/]+\/src\/(plugin|index)\.ts$/;

export const rules: readonly Rule[] = [
  {
    says: "core imports none of our packages",
    files: /^packages\/core\/src\//,
    forbids: (target) => target.startsWith("packages/") && !target.startsWith("packages/core/"),
  },
  {
    says: "core outside testing/ never imports core/src/testing",
    files: /^packages\/core\/src\/(?!testing\/)/,
    forbids: matches(/^packages\/core\/src\/testing\//),
  },
  {
    says: "a package other than cli imports only core and itself",
    files: /^packages\/(?!core\/|cli\/)[^/]+\/src\//,
    forbids: (target, from) =>
      target.startsWith("packages/") && ![inside(from), "packages/core"].includes(inside(target)),
  },
  {
    says: "spec/ imports only core and spec/",
    files: /^packages\/iommu-[^/]+\/src\/spec\//,
    forbids: (target, from) => inside(target) !== "packages/core" && !target.startsWith(`${inside(from)}/src/spec/`),
  },
  {
    says: "hardware/ never imports driver/",
    files: /\/src\/hardware\//,
    forbids: matches(/\/src\/driver\//),
  },
  {
    says: "driver/ never imports hardware/",
    files: /\/src\/driver\//,
    forbids: matches(/\/src\/hardware\//),
  },
  {
    says: "hardware/ and driver/ never import plugin.ts or index.ts, where both meet",
    files: /\/src\/(hardware|driver)\//,
    forbids: matches(backendRoot),
  },
  {
    says: "a backend file outside hardware/ and driver/ imports neither, except plugin.ts and index.ts",
    files: /^packages\/iommu-[^/]+\/src\/(?!(hardware|driver)\/|(plugin|index)\.ts$)/,
    forbids: matches(/\/src\/(hardware|driver)\//),
  },
  {
    says: "only cli and host-linux import node: modules",
    files: /^packages\/(?!cli\/|host-linux\/)[^/]+\/src\//,
    forbids: matches(/^node:/),
  },
  {
    says: "a package's sources stay in packages/",
    files: /^packages\//,
    forbids: matches(/^(examples|conformance|bench|tools)\//),
  },
];

/** Every broken rule as "FILE imports TARGET: RULE". */
export function violations(files: readonly SourceFile[], table = rules): string[] {
  return files.flatMap(({ path, text }) =>
    importsOf(text).flatMap((specifier) => {
      const target = resolve(specifier, path);
      return table
        .filter((rule) => rule.files.test(path) && rule.forbids(target, path))
        .map((rule) => `${path} imports ${specifier}: ${rule.says}`);
    }),
  );
}

/** The module names of all static imports, re-exports, dynamic imports and import types. */
export function importsOf(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  const pattern = /(?:\bfrom\s*|\bimport\s*\(\s*|^\s*import\s*)(["'])([^"'\n]+)\1/gm;
  return [...code.matchAll(pattern)].map((match) => match[2]);
}

/** Where a specifier leads: a source path for our own code, the name itself otherwise (`fs` counts as `node:fs`). */
function resolve(specifier: string, from: string): string {
  if (specifier.startsWith(".")) return posix.join(posix.dirname(from), specifier).replace(/\.js$/, ".ts");
  const own = /^@iommukit\/([^/]+)(?:\/(.+))?$/.exec(specifier);
  if (own) return `packages/${own[1]}/src/${own[2] ? `${own[2]}/` : ""}index.ts`;
  return builtins.has(specifier) ? `node:${specifier}` : specifier;
}
