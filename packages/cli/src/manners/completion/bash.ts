/** Completion for bash: commands, options, the values that options know; files everywhere else. */
import type { CommandPage, OptionPage } from "../page.js";

export function bashCompletion({ name: program, commands, options }: CommandPage): string {
  const first = [...commands.map(({ name }) => name), ...flags(options)].join(" ");
  return `# bash completion for ${program}: eval "$(${program} completion bash)"
_${program}() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} words=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${first}" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]} $current" in
${commands.map((command) => `    "${command.name} -"*) words="${flags(command.options).join(" ")}" ;;`).join("\n")}
    *) case "\${COMP_WORDS[1]} $previous" in
${commands.flatMap(valueCases).join("\n")}
    esac ;;
  esac
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    compopt -o filenames 2> /dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -F _${program} ${program}
`;
}

function flags(options: readonly OptionPage[]): string[] {
  return options.flatMap((option) => option.flags);
}

function valueCases({ name, options, argumentChoices }: CommandPage): string[] {
  const known = options.filter(({ choices }) => choices !== undefined);
  const patterns = known.map(
    ({ flags: names, choices = [] }) => [names.map((flag) => `"${name} ${flag}"`).join(" | "), choices] as const,
  );
  if (argumentChoices !== undefined) patterns.push([`"${name} ${name}"`, argumentChoices]);
  return patterns.map(([pattern, words]) => `      ${pattern}) words="${words.join(" ")}" ;;`);
}
