"""``potstill completion``."""

from potstill._util.progress import Watcher
from potstill.cli.commands import Completion
from potstill.cli.parsing import Parsed
from potstill.cli.runners.parts import Answer

__all__ = ["run_completion"]


def run_completion(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.cli.completion import script

    command = parsed.command
    assert isinstance(command, Completion)
    text = script(command.shell)
    return Answer({"shell": command.shell, "script": text}, text)
