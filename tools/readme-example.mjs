/** Examples of READMEs, and the output that they promise. */

/**
 * Every block of TypeScript.
 * @param {string} readme
 * @returns {readonly string[]}
 */
export function readmeBlocks(readme) {
  return [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
}

/**
 * @param {string} readme
 * @returns {{ code: string, output: string }}
 */
export function readmeExample(readme) {
  const match = /```ts\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/.exec(readme);
  if (!match) throw new Error("README.md has no example with its output");
  return { code: match[1], output: match[2] };
}
