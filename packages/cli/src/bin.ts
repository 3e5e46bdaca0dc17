import { main } from "./program.js";

// `iommukit … | head` closes the pipe: that is no error. A full disk is.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") process.stderr.write(`iommukit: cannot write standard output: ${error.message}\n`);
  process.exit(error.code === "EPIPE" ? 0 : 2);
});
process.exitCode = await main(process.argv.slice(2));
