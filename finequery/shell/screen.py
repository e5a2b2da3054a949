"""Where text goes: the terminal, by way of a pager when it is longer than the screen, or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

#: less: -S cuts long lines (arrow keys scroll sideways), -R shows colours, -F leaves if all fits, -X clears nothing.
PAGER = "less -SRFX"
#: Columns where there is no terminal, and the least that tables are made for.
COLUMNS, NARROWEST = 120, 40
#: For terminals that have no box characters.
_ASCII = str.maketrans("┌┬┐├┼┤└┴┘─━│·…█▏▎▍▌▋▊▉", "+++++++++--|..########")


def is_terminal(stream: IO[str]) -> bool:
    """Whether a person is watching."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def size() -> tuple[int, int]:
    """Columns and lines of the terminal; where output is piped $COLUMNS or 120, and no end of lines."""
    try:
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        return max(NARROWEST, columns or 80), lines or 24
    except (OSError, ValueError):
        given = os.environ.get("COLUMNS", "")
        return (max(NARROWEST, int(given)) if given.isdigit() else COLUMNS), sys.maxsize


def coloured(stream: IO[str], wanted: bool = True) -> bool:
    """Whether to write colours to a stream: to a terminal that has them, unless ``--no-color`` or $NO_COLOR says no."""
    return wanted and not os.environ.get("NO_COLOR") and is_terminal(stream) and not is_dumb()


def is_dumb() -> bool:
    """Whether the terminal can't move its cursor."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown", "")


def pager_command() -> list[str]:
    """The pager's words: $FINEQUERY_PAGER, $PAGER, or less; none where there is no such program, or no cursor."""
    import shlex
    import shutil

    if is_dumb():
        return []
    for name in ("FINEQUERY_PAGER", "PAGER"):
        if name in os.environ:
            text = os.environ[name].strip()
            break
    else:
        text = PAGER
    try:
        words = shlex.split(text)
    except ValueError:
        return []
    return words if words and words != ["cat"] and shutil.which(words[0]) else []


class Screen:
    """A text of any length on its way to the terminal. It is held back until it is longer than the screen; then a
    pager gets it, and otherwise it is printed. ``paging`` is told when the pager has the terminal and Ctrl-C."""

    def __init__(self, paged: bool, paging: Callable[[bool], None]) -> None:
        self._command = pager_command() if paged and is_terminal(sys.stdout) else []
        self._paging = paging
        self._room = size()[1] - 2
        self._held: list[str] = []
        self._pager: subprocess.Popen[str] | None = None
        self._closed = False

    def write(self, line: str) -> bool:
        """A line; whether more is wanted (the reader may have left the pager)."""
        if self._closed:
            return False
        if self._pager is not None:
            return self._feed(line)
        if not self._command:
            _print(line)
            return True
        self._held += line.split("\n")
        if len(self._held) <= self._room:
            return True
        import subprocess

        environment = {"LESS": "SRFX", "LESSCHARSET": "utf-8"} | os.environ
        self._paging(True)
        sys.stdout.flush()
        try:
            self._pager = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, text=True, encoding="utf-8", errors="replace", env=environment
            )
        except OSError:
            self._paging(False)
            self._command, held = [], self._held
            self._held = []
            return self.write("\n".join(held))
        held, self._held = self._held, []
        return self._feed("\n".join(held))

    def _feed(self, line: str) -> bool:
        assert self._pager is not None and self._pager.stdin is not None
        try:
            self._pager.stdin.write(line + "\n")
            return True
        except BrokenPipeError:
            self._closed = True
            return False

    def close(self) -> None:
        """Print what was held back, or wait until the reader leaves the pager."""
        if self._pager is None:
            if self._held:
                _print("\n".join(self._held))
            return
        import contextlib

        with contextlib.suppress(BrokenPipeError):
            self._pager.__exit__(None, None, None)
        self._paging(False)


def _print(line: str) -> None:
    encoding = (sys.stdout.encoding or "utf-8").lower()
    if not line.isascii() and not encoding.startswith("utf"):
        line = line.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    print(line)
