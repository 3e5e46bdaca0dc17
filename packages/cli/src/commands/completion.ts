/** `iommukit completion`: a script that teaches a shell the commands and options. */
import { Argument, Command } from "commander";
import { bashCompletion } from "../manners/completion/bash.js";
import { fishCompletion } from "../manners/completion/fish.js";
import { zshCompletion } from "../manners/completion/zsh.js";
import { withExamples } from "../manners/examples.js";
import { pageOf } from "../manners/page.js";

const SHELLS = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } as const;

/** @param whole the program with every command */
export function completionCommand(whole: () => Promise<Command>): Command {
  const command = new Command("completion")
    .description("print a script that completes commands, options and their values")
    .addArgument(new Argument("<shell>", "which shell").choices(Object.keys(SHELLS)))
    .action(async (shell: keyof typeof SHELLS) => {
      process.stdout.write(SHELLS[shell](pageOf(await whole())));
    });
  return withExamples(command, [
    ['eval "$(iommukit completion bash)"', "in ~/.bashrc"],
    ["iommukit completion zsh > ~/.zfunc/_iommukit", "once, for zsh, with ~/.zfunc in fpath"],
    ["iommukit completion fish | source", "in ~/.config/fish/config.fish"],
  ]);
}
