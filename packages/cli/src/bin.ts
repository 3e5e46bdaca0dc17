import { version } from "./version.js";

// `iommukit … | head` closes the pipe: that is no error. A full disk is.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") process.stderr.write(`iommukit: cannot write standard output: ${error.message}\n`);
  process.exit(error.code === "EPIPE" ? 0 : 2);
});

const words = process.argv.slice(2);
// What scripts ask at every start needs no parser of command lines, which takes longer to load than to answer.
if (words.length === 1 && (words[0] === "--version" || words[0] === "-V")) process.stdout.write(`${version()}\n`);
else process.exitCode = await (await import("./program.js")).main(words);
