/** Where an example's lines go: the terminal, or a test that compares them with the committed ones. */
export type Print = (line: string) => void;

/** Runs an example when its file is the program. */
export async function main(module: ImportMeta, example: (print: Print) => Promise<void>): Promise<void> {
  if (process.argv[1] === module.filename) await example(console.log);
}
