/** The command line as a value, so that tests can drive it without a process. */
import { Command } from "commander";

export function createProgram(): Command {
  return new Command("iommukit")
    .description("Shared Virtual Addressing without the hardware")
    .version("0.1.0")
    .showHelpAfterError();
}
