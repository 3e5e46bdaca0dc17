/** What every command's end means. */
export const EXIT_STATUS = [
  { term: "0", text: "done, and nothing wrong was found" },
  { term: "1", text: "something was found wrong, or nothing in the input was known" },
  { term: "2", text: "bad input: one line on standard error says what" },
] as const;
