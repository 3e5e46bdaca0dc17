/** Colour for a terminal, and none in a pipe, a file, or where NO_COLOR asks for none. */
import picocolors from "picocolors";

export type Colours = ReturnType<typeof picocolors.createColors>;

export function colours(stream: { readonly isTTY?: boolean }): Colours {
  const { NO_COLOR, TERM } = process.env;
  return picocolors.createColors(stream.isTTY === true && !NO_COLOR && TERM !== "dumb");
}
