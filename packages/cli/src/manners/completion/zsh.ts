/** Completion for zsh, by its _arguments and _describe. */
import type { CommandPage, OptionPage } from "../page.js";

export function zshCompletion({ name: program, commands, options }: CommandPage): string {
  return `#compdef ${program}
# zsh completion for ${program}: ${program} completion zsh > ~/.zfunc/_${program}
_${program}() {
  local -a commands
  local state line
  commands=(
${commands.map(({ name, summary }) => `    ${quoted(`${name}:${colons(summary)}`)}`).join("\n")}
  )
  _arguments -C ${options.flatMap(specs).join(" ")} '1: :->command' '*:: :->rest'
  case $state in
    command) _describe command commands ;;
    rest)
      case $line[1] in
${commands.map(branch).join("\n")}
      esac ;;
  esac
}
if [ "$funcstack[1]" = "_${program}" ]; then _${program} "$@"; else compdef _${program} ${program}; fi
`;
}

function branch({ name, options, argumentChoices }: CommandPage): string {
  const rest = argumentChoices === undefined ? "'*:file:_files'" : quoted(`1:word:(${argumentChoices.join(" ")})`);
  return `        ${name}) _arguments ${[...options.flatMap(specs), rest].join(" ")} ;;`;
}

/** One specification for each flag: "--format[text or …]:value:(text md)". */
function specs({ flags, text, takesValue, choices }: OptionPage): string[] {
  const value = choices === undefined ? ":value:_files" : `:value:(${choices.join(" ")})`;
  const words = colons(text).replaceAll(/[[\]]/g, "\\$&");
  return flags.map((flag) => quoted(`*${flag}[${words}]${takesValue ? value : ""}`));
}

function colons(text: string): string {
  return text.replaceAll(":", "\\:");
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
