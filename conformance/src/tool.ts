/** What the caller got wrong: printed as one line, exit status 2. */
export class UsageError extends Error {}

/** Runs a tool's `main` and turns its answer into the exit status. */
export async function runTool(main: (args: string[]) => Promise<number>): Promise<void> {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(error.message.replaceAll(/\s*\n\s*/g, " "));
    process.exitCode = 2;
  }
}

/** Prints a table's names, one a line, for scripts. */
export function listNames(table: object): number {
  for (const name of Object.keys(table)) console.log(name);
  return 0;
}
