/** Lines for terminals, pull requests and mail. */
export const WIDTH = 120;

/** Breaks at spaces; what has none is cut. @param indent of the lines that continue it */
export function wrap(text: string, indent: number, width = WIDTH): string[] {
  const lines: string[] = [];
  let left = text;
  while (left.length > width) {
    const space = left.lastIndexOf(" ", width);
    const at = space > indent ? space : width;
    lines.push(left.slice(0, at));
    left = " ".repeat(indent) + left.slice(at).trimStart();
  }
  return [...lines, left];
}
