/** What a command says about itself, as plain data: help, man pages, docs/cli and completion scripts have one source. */
import type { Argument, Command, Option } from "commander";

export interface Entry {
  /** "--format <name>", "[file...]". */
  readonly term: string;
  readonly text: string;
}

export interface OptionPage extends Entry {
  /** "-s", "--json". */
  readonly flags: readonly string[];
  readonly takesValue: boolean;
  /** Values that it knows; undefined when anything goes. */
  readonly choices: readonly string[] | undefined;
}

export interface CommandPage {
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  readonly usage: string;
  readonly arguments: readonly Entry[];
  /** Words that the first argument can be; undefined when it is a file or anything else. */
  readonly argumentChoices: readonly string[] | undefined;
  readonly options: readonly OptionPage[];
  /** What follows the options in the help: a heading and its lines. */
  readonly sections: readonly { readonly title: string; readonly lines: readonly string[] }[];
  readonly commands: readonly CommandPage[];
}

export function pageOf(command: Command): CommandPage {
  const help = command.createHelp();
  return {
    name: command.name(),
    summary: command.description(),
    usage: help.commandUsage(command),
    arguments: help
      .visibleArguments(command)
      .map((argument) => ({ term: argument.name(), text: help.argumentDescription(argument) })),
    argumentChoices: choicesOf(help.visibleArguments(command).at(0)),
    options: help.visibleOptions(command).map((option) => ({
      term: help.optionTerm(option),
      text: help.optionDescription(option),
      ...shape(option),
    })),
    sections: sectionsOf(textAfter(command)),
    commands: command.commands.map(pageOf),
  };
}

function shape({ short, long, required, optional, argChoices }: Option): Omit<OptionPage, keyof Entry> {
  return {
    flags: [short, long].filter((flag) => flag !== undefined),
    takesValue: required || optional,
    choices: argChoices,
  };
}

/** Commander's declarations leave the property out. */
function choicesOf(
  argument: (Argument & { argChoices?: readonly string[] }) | undefined,
): readonly string[] | undefined {
  return argument?.argChoices;
}

/** Commander writes such texts after the help proper and hands them out no other way. */
function textAfter(command: Command): string {
  const before = command.configureOutput();
  let text = "";
  command.configureOutput({
    ...before,
    writeOut: (piece) => {
      text += piece;
    },
  });
  command.outputHelp();
  command.configureOutput(before);
  return text.slice(command.helpInformation().length);
}

/** "Examples:" at the start of a line is a heading. */
function sectionsOf(text: string): CommandPage["sections"] {
  const sections: { title: string; lines: string[] }[] = [];
  for (const line of text.trimEnd().split("\n")) {
    const title = /^(\S.*):$/.exec(line)?.[1];
    if (title !== undefined) sections.push({ title, lines: [] });
    else if (line.trim() !== "") sections.at(-1)?.lines.push(line);
  }
  return sections;
}
