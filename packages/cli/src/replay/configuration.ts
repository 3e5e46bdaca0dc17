/** One column of the comparison: a backend with its preset, how it invalidates, which pages it uses, and what the device reads. */
import type { Backend } from "../backends.js";
import type { Access } from "./access-pattern.js";

export type Mode = "strict" | "lazy";
/** "huge": the largest pages that size and alignment allow, as Linux does; "4k": the smallest ones only. */
export type Pages = "huge" | "4k";

export interface Configuration {
  readonly label: string;
  readonly backend: Backend;
  readonly mode: Mode;
  readonly pages: Pages;
  readonly access: Access | undefined;
}

/** Every combination. A label says what sets a column apart from the others, or from the default. */
export function configurations(
  backends: readonly Backend[],
  modes: readonly Mode[],
  pages: readonly Pages[],
  access: Access | undefined,
): readonly Configuration[] {
  return backends.flatMap((backend) =>
    modes.flatMap((mode) =>
      pages.map((size) => {
        const words = [
          backend.label,
          modes.length > 1 || mode !== "strict" ? mode : "",
          pages.length > 1 || size !== "huge" ? size : "",
        ];
        return { label: words.filter((word) => word !== "").join(" "), backend, mode, pages: size, access };
      }),
    ),
  );
}
