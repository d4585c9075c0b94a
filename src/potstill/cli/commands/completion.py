"""``potstill completion``: completion scripts for bash, zsh and fish, made of the dataclasses of the commands.

The script contains all names, so that the Tab key waits for no Python. It knows what was installed when it was made:
make it anew after an update. tyro's own completion knows one fixed parser: it would lose the options of the method or
protocol on the line, names of the registry and of data as values, and comma lists.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from tyro.conf import Positional, arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, Parsed
from potstill.cli.commands import COMMANDS
from potstill.cli.help import option_choices
from potstill.cli.options import NAME_GROUPS, OptionField
from potstill.cli.parsing import options_of
from potstill.core.registry import names

__all__ = ["Completion", "CompletionOption", "completion_script", "completion_table"]

Shell = Literal["bash", "zsh", "fish"]


@dataclass(frozen=True, kw_only=True)
class Completion(Command):
    """Print a script that completes commands, options, and names of methods, networks and so on at the Tab key.

    bash: `potstill completion bash > ~/.local/share/bash-completion/completions/potstill`. zsh: into a file `_potstill`
    in a folder of $fpath. fish: into ~/.config/fish/completions/potstill.fish. Then open a new shell.
    """

    shell: Annotated[Positional[Shell], arg(metavar="bash|zsh|fish")]
    """The shell."""

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        text = completion_script(self.shell)
        return Answer({"shell": self.shell, "script": text}, text)


class CompletionOption(NamedTuple):
    """One option: its flag, whether a value follows, which values there are (none: files), and what it is."""

    flag: str
    value: bool
    values: tuple[str, ...]
    about: str


_HELP = CompletionOption("--help", False, (), "Show all options")


def completion_table() -> dict[str, list[CompletionOption]]:
    """Every command's options by its name; what a method or protocol adds, under ``--method NAME`` and so on."""
    found = {command: [*map(_option, options_of(command)), _HELP] for command in COMMANDS}
    for name in names("methods"):
        found[f"--method {name}"] = [*map(_option, options_of("distill", "method", name))]
    for name in names("protocols"):
        found[f"--protocol {name}"] = [*map(_option, options_of("evaluate", "protocol", name))]
    return found


def _first_words() -> dict[str, str]:
    """First words of the commands, each with one line about it."""
    return {name.split()[0]: about if " " not in name else "by a second word" for name, about in COMMANDS.items()}


def _second_words() -> dict[str, dict[str, str]]:
    """Second words of the commands of two words, each with one line about it, by the first."""
    seconds: dict[str, dict[str, str]] = {}
    for name, about in COMMANDS.items():
        first, _, second = name.partition(" ")
        if second:
            seconds.setdefault(first, {})[second] = about
    return seconds


def _option(field: OptionField) -> CompletionOption:
    values = tuple(dict.fromkeys(option_choices(field.hint)))
    if group := NAME_GROUPS.get(field.name):
        values = names(group)
    return CompletionOption(field.flag, not field.is_switch, values, field.about.split(". ")[0].rstrip("."))


@functools.cache
def _data() -> tuple[str, ...]:
    from potstill.api.listing import list_data

    return tuple(row["name"] for row in list_data() if " " not in row["name"])


def completion_script(shell: Shell) -> str:
    """The script for ``shell``.

    Raises:
        PotstillError: an installed package registers a name that is taken.
    """
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


_READS_DATA = "|".join(
    f"'{name}'" for name in COMMANDS
    if name in ("distill", "plan", "score", "compare", "scaling", "active-learning") or name.startswith("use ")
)  # fmt: skip
"""Commands whose first argument is data, as a pattern of a shell."""

_FUNCTION = r"""
# Options of the command $1 that are not of all its kind: of the method or protocol that the line names.
__potstill_part() {
    local command=$1 method=dm protocol=potstill word before=
    shift
    for word in "$@"; do
        case $before in
            --method) method=$word ;;
            --protocol) protocol=$word ;;
        esac
        case $word in
            --method=*) method=${word#*=} ;;
            --protocol=*) protocol=${word#*=} ;;
        esac
        before=$word
    done
    case $command in
        distill|plan) printf '%s' "--method $method" ;;
        evaluate|label|compare) printf '%s' "--protocol $protocol" ;;
    esac
}
"""


def _cases(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"        '{key}') printf '%s' '{words}' ;;" for key, words in rows)


def _common() -> str:
    """Functions of what bash and zsh both understand: words after a command, values after an option."""
    found = completion_table()
    flags = [(key, " ".join(option.flag for option in options)) for key, options in found.items()]
    values: dict[str, str] = {}
    for key, options in found.items():
        for option in options:
            words = " ".join(option.values) if option.values else "/" if option.value else ""
            if words:
                values[f"{key} {option.flag}"] = words
    return (
        "# Made by `potstill completion`; make it anew after an update.\n"
        + _FUNCTION
        + f"""
__potstill_flags() {{
    case $1 in
{_cases(flags)}
    esac
}}

__potstill_seconds() {{
    case $1 in
{_cases([(first, " ".join(seconds)) for first, seconds in _second_words().items()])}
    esac
}}

# What may follow an option: words, or / where it is a file or a value of one's own.
__potstill_values() {{
    case $1 in
{_cases(list(values.items()))}
    esac
}}
"""
    )


def _bash() -> str:
    return (
        _common()
        + f"""
_potstill() {{
    local here=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
    local part values begun=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W '{" ".join(_first_words())} --help --version' -- "$here"))
        return
    fi
    if [[ ' {" ".join(_second_words())} ' == *" $command "* ]]; then
        if [ "$COMP_CWORD" -eq 2 ]; then
            COMPREPLY=($(compgen -W "$(__potstill_seconds "$command")" -- "$here"))
            [ "$command" = audit ] && COMPREPLY+=($(compgen -f -- "$here"))
            return
        fi
        case " $(__potstill_seconds "$command") " in
            *" ${{COMP_WORDS[2]}} "*) command="$command ${{COMP_WORDS[2]}}" ;;
        esac
    fi
    [ "$here" = = ] && here=
    [ "$before" = = ] && before=${{COMP_WORDS[COMP_CWORD-2]}}
    part=$(__potstill_part "${{COMP_WORDS[@]:1:COMP_CWORD-1}}")
    values=$(__potstill_values "$command $before")
    [ -n "$values" ] || values=$(__potstill_values "$part $before")
    if [ "$values" = / ]; then
        COMPREPLY=($(compgen -f -- "$here"))
    elif [ -n "$values" ]; then
        case $before:$here in
            --methods:*,*) begun=${{here%,*}},; here=${{here##*,}} ;;
        esac
        COMPREPLY=($(compgen -P "$begun" -W "$values" -- "$here"))
    elif [[ $here == -* ]]; then
        COMPREPLY=($(compgen -W "$(__potstill_flags "$command") $(__potstill_flags "$part")" -- "$here"))
    else
        case $command in
            {_READS_DATA})
                COMPREPLY=($(compgen -W '{" ".join(_data())}' -- "$here") $(compgen -f -- "$here")) ;;
            methods) COMPREPLY=($(compgen -W '{" ".join(names("methods"))}' -- "$here")) ;;
            completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$here")) ;;
            *) COMPREPLY=($(compgen -f -- "$here")) ;;
        esac
    fi
}}
complete -o filenames -F _potstill potstill"""
    )


def _zsh() -> str:
    rows = " ".join(f"'{name}:{_plain(about)}'" for name, about in _first_words().items())
    return (
        "#compdef potstill\n"
        + _common()
        + f"""
_potstill() {{
    local command=$words[2] before=$words[CURRENT-1] part values
    local -a commands=({rows})
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    if [[ ' {" ".join(_second_words())} ' == *" $command "* ]]; then
        if (( CURRENT == 3 )); then
            compadd -- ${{=$(__potstill_seconds "$command")}}
            [[ $command == audit ]] && _files
            return
        fi
        case " $(__potstill_seconds "$command") " in
            *" $words[3] "*) command="$command $words[3]" ;;
        esac
    fi
    part=$(__potstill_part "${{(@)words[2,CURRENT-1]}}")
    values=$(__potstill_values "$command $before")
    [[ -n $values ]] || values=$(__potstill_values "$part $before")
    if [[ $values == / ]]; then
        _files
    elif [[ -n $values ]]; then
        if [[ $before == --methods ]]; then
            compset -P '*,'
        fi
        compadd -- ${{=values}}
    elif [[ $words[CURRENT] == -* ]]; then
        compadd -- ${{=$(__potstill_flags "$command")}} ${{=$(__potstill_flags "$part")}}
    else
        case $command in
            {_READS_DATA}) compadd -- {" ".join(_data())}; _files ;;
            methods) compadd -- {" ".join(names("methods"))} ;;
            completion) compadd -- bash zsh fish ;;
            *) _files ;;
        esac
    fi
}}
if [[ $funcstack[1] == _potstill ]]; then
    _potstill "$@"
else
    compdef _potstill potstill
fi"""
    )


def _plain(text: str) -> str:
    """Text that may stand between single quotes in every shell."""
    return "".join(c for c in text.replace("'", "’").replace("\\", "/").replace(":", ",") if c.isprintable())


_FISH = r"""# Made by `potstill completion`; make it anew after an update.
function __potstill_part
    set -l words (commandline -opc)
    set -l chosen $argv[2]
    for i in (seq 2 (count $words))
        if test "$words[$i]" = "--$argv[1]"; and test $i -lt (count $words)
            set chosen $words[(math $i + 1)]
        else if string match -q -- "--$argv[1]=*" $words[$i]
            set chosen (string replace -- "--$argv[1]=" "" $words[$i])
        end
    end
    test "$chosen" = "$argv[3]"
end
complete -c potstill -f
complete -c potstill -n __fish_use_subcommand -l version -d "Which version this is"
complete -c potstill -n __fish_use_subcommand -l help -d "What there is"
"""


def _fish() -> str:
    lines = [_FISH.rstrip()]
    for name, about in _first_words().items():
        lines.append(f"complete -c potstill -n __fish_use_subcommand -a {name} -d '{_plain(about)}'")
    within = "__fish_seen_subcommand_from"
    for first, seconds in _second_words().items():
        unnamed = f"{within} {first}; and not {within} {' '.join(seconds)}"
        for second, about in seconds.items():
            lines.append(f"complete -c potstill -n '{unnamed}' -a {second} -d '{_plain(about)}'")
    for key, options in completion_table().items():
        kind, _, name = key.partition(" ")
        match kind:
            case "--method":
                where = f"{within} distill plan; and __potstill_part method dm {name}"
            case "--protocol":
                where = f"{within} evaluate label compare; and __potstill_part protocol potstill {name}"
            case _:
                where = "; and ".join(f"{within} {word}" for word in key.split())
        for option in options:
            values = f" -xa '{' '.join(option.values)}'" if option.values else " -rF" if option.value else ""
            lines.append(f"complete -c potstill -n '{where}' -l {option.flag[2:]}{values} -d '{_plain(option.about)}'")
    making = " ".join(name.split()[-1].strip("'") for name in _READS_DATA.split("|"))
    lines.append(f"complete -c potstill -n '{within} {making}' -Fa '{' '.join(_data())}'")
    lines.append(f"complete -c potstill -n '{within} methods' -a '{' '.join(names('methods'))}'")
    lines.append(f"complete -c potstill -n '{within} completion' -a 'bash zsh fish'")
    lines.append(
        f"complete -c potstill -n '{within} evaluate label report inspect export materialize select-detection' -F"
    )
    return "\n".join(lines)
