"""What a dot command is, and how a line becomes a call of one. The commands themselves are in ``basic_commands``
(tables, output, files) and ``query_commands`` (where queries run, and what the last one took)."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finequery.errors import ProgrammingError, nearest

if TYPE_CHECKING:
    from finequery.shell.shell import Shell

Run = Callable[..., None]


@dataclass(frozen=True)
class Command:
    """``arguments``: for each one what it may be, for completion: words by ``|``, or a kind of ``completion.KINDS``."""

    name: str
    usage: str
    arguments: tuple[str, ...]
    run: Run
    required: int

    @property
    def summary(self) -> str:
        """The first sentence of the help."""
        return self.help.partition("\n\n")[0].replace("\n", " ").rstrip(".")

    @property
    def help(self) -> str:
        """All of it."""
        return inspect.getdoc(self.run) or ""


COMMANDS: dict[str, Command] = {}
_ALIASES = {"exit": "quit", "?": "help"}


def command(usage: str, *arguments: str) -> Callable[[Run], Run]:
    """Make a function the command of this usage line. Its docstring is the help; arguments without a default must be
    given."""

    def decorate(run: Run) -> Run:
        name = usage.split()[0][1:]
        parameters = list(inspect.signature(run).parameters.values())[1:]
        required = sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters)
        COMMANDS[name] = Command(name, usage, arguments, run, required)
        return run

    return decorate


def known() -> dict[str, Command]:
    """All commands by name."""
    from finequery.shell import basic_commands, query_commands  # noqa: F401 (they register)

    return COMMANDS


def find(word: str) -> Command:
    """The command of a name, with or without its dot, or of the beginning of just one name."""
    commands = known()
    name = word.removeprefix(".").lower()
    name = _ALIASES.get(name, name)
    if name in commands:
        return commands[name]
    matching = [c for c in commands if name and c.startswith(name)]
    if len(matching) == 1:
        return commands[matching[0]]
    if matching:
        hint = "Did you mean " + " or ".join(f".{c}" for c in matching) + "?"
    else:
        hint = nearest("." + name, [f".{c}" for c in commands]).replace('"', "")
    raise ProgrammingError(f"There is no command .{name}", hint=f"{hint} .help lists all.".strip())


def execute(shell: Shell, text: str) -> None:
    """Run a line that begins with a dot."""
    try:
        words = shlex.split(text.rstrip("; \t"))
    except ValueError:
        raise ProgrammingError(f"A quote is not closed: {text}") from None
    if not words or words[0] == ".":
        raise ProgrammingError("The name of a command follows the dot", hint=".help lists them.")
    found = find(words[0])
    arguments = words[1:]
    most = None if found.arguments[-1:] == ("...",) else len(found.arguments)
    if len(arguments) < found.required or (most is not None and len(arguments) > most):
        raise ProgrammingError(f"Usage: {found.usage}", hint=f".help {found.name} says more.")
    found.run(shell, *arguments)


def choice(command: str, value: str, choices: tuple[str, ...]) -> str:
    """The one of the choices that was meant, in any case."""
    if value.lower() not in choices:
        hint = nearest(value, choices)
        raise ProgrammingError(f".{command} {value}: it is {' or '.join(choices)}", hint=hint or None)
    return value.lower()


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL takes it."""
    return "'" + text.replace("'", "''") + "'"
