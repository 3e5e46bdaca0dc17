/** The README's example and the output that it promises. */

/**
 * @param {string} readme
 * @returns {{ code: string, output: string }}
 */
export function readmeExample(readme) {
  const match = /```ts\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/.exec(readme);
  if (!match) throw new Error("README.md has no example with its output");
  return { code: match[1], output: match[2] };
}
