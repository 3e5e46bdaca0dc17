/** What the command line answers to bad input: one line, exit status 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
