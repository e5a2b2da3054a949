"""The input line without prompt_toolkit: Python's readline, where there is one, with the same history and names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from finequery.shell import history, screen
from finequery.shell.interactive import prompts, warm
from finequery.shell.tokens import finished

if TYPE_CHECKING:
    from finequery.shell.shell import Shell


def prompt(shell: Shell) -> Callable[[], str]:
    """A function that reads one complete input, line by line."""
    lines: list[str] = []
    readline = _readline()
    if readline is not None:
        for entry in history.load():
            readline.add_history(" ".join(entry.split("\n")))
        readline.set_completer_delims(" \t\n,;()=<>+*/%|")
        readline.set_completer(_completer(shell, readline, lines))
        readline.parse_and_bind("tab: complete")

    def read() -> str:
        first, more = prompts(shell)
        lines.clear()
        warm()
        try:
            lines.append(input(first))
            while not finished("\n".join(lines)):
                lines.append(input(more))
        except (KeyboardInterrupt, EOFError):
            print()
            raise
        text = "\n".join(lines)
        if text.strip():
            history.append(text)
        return text

    return read


def _readline() -> Any:
    """The module, where the terminal can be edited on."""
    if screen.is_dumb():
        return None
    try:
        import readline
    except ImportError:
        return None
    return readline


def _completer(shell: Shell, readline: Any, lines: list[str]) -> Callable[[str, int], str | None]:
    from finequery.shell.completion import complete

    found: list[str] = []

    def completer(word: str, state: int) -> str | None:
        if state == 0:
            buffer = readline.get_line_buffer()
            text = "\n".join([*lines, buffer[: readline.get_endidx()]])
            begin = len(text) - len(word)
            found[:] = [text[begin : c.start] + c.text for c in complete(shell, text, len(text)) if c.start >= begin]
        return found[state] if state < len(found) else None

    return completer
