/** Completion for fish: one `complete` line for each command and option. */
import type { CommandPage, OptionPage } from "../page.js";

export function fishCompletion({ name: program, commands, options }: CommandPage): string {
  const none = `-n __fish_use_subcommand`;
  return [
    `# fish completion for ${program}: ${program} completion fish | source`,
    ...options.map((option) => line(program, none, option)),
    ...commands.flatMap((command) => [
      `complete -c ${program} ${none} -f -a ${command.name} -d ${quoted(command.summary)}`,
      ...ofCommand(program, command),
    ]),
    "",
  ].join("\n");
}

function ofCommand(program: string, { name, options, argumentChoices }: CommandPage): string[] {
  const when = `-n '__fish_seen_subcommand_from ${name}'`;
  const words =
    argumentChoices === undefined ? [] : [`complete -c ${program} ${when} -f -a ${quoted(argumentChoices.join(" "))}`];
  return [...words, ...options.map((option) => line(program, when, option))];
}

function line(program: string, when: string, { flags, text, takesValue, choices }: OptionPage): string {
  const names = flags.map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  const value = choices === undefined ? (takesValue ? ["-r"] : []) : [`-x -a ${quoted(choices.join(" "))}`];
  return ["complete", "-c", program, when, ...names, ...value, "-d", quoted(text)].join(" ");
}

function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
