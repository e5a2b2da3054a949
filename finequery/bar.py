"""The progress bar: one line on stderr, drawn while a statement takes long, taken away when it ends."""

from __future__ import annotations

import os
import sys
from typing import Any

from finequery.progress import Progress

#: Columns of the bar itself.
WIDTH = 24
_state: dict[str, Any] = {"stream": None, "columns": 0}


def wanted(setting: str) -> bool:
    """Whether somebody is watching, or it is asked for: stderr and stdout are a terminal, or a notebook's."""
    if setting != "auto":
        return setting == "on"
    if _notebook():
        return True
    return _terminal(sys.stderr) and _terminal(sys.stdout) and os.environ.get("TERM") != "dumb"


def _terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # none, or closed
        return False


def _notebook() -> bool:
    return type(sys.stderr).__module__.startswith("ipykernel")


def columns() -> int:
    """Columns of the line: one less than the terminal has, so that it never wraps."""
    try:
        found = os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, OSError, ValueError):
        found = 0
    return (found if found > 1 else 80) - 1


def text(progress: Progress, width: int) -> str:
    """The line."""
    seconds = duration(progress.seconds)
    if progress.done is None:
        line = f"{seconds}  {progress.doing}"
    else:
        filled = int(WIDTH * progress.done)
        left = "" if progress.remaining is None else f", {duration(progress.remaining)} left"
        bar = "█" * filled + "·" * (WIDTH - filled)
        line = f"{bar} {progress.done:4.0%}  {seconds}{left}  {progress.doing}"
    return line if len(line) <= width else line[: width - 1] + "…"


def duration(seconds: float) -> str:
    """A time in words of some characters."""
    if seconds < 0.1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def draw(progress: Progress) -> None:
    """Draw it in the place of the last one."""
    stream = sys.stderr
    line = text(progress, columns())
    _state["stream"] = stream
    if _notebook():
        stream.write("\r" + line.ljust(_state["columns"]))
    else:
        stream.write(f"\r\x1b[K{line}")
    _state["columns"] = len(line)
    stream.flush()


def erase() -> None:
    """Take it away."""
    stream = _state["stream"]
    if stream is None:
        return
    stream.write("\r" + " " * _state["columns"] + "\r" if _notebook() else "\r\x1b[K")
    stream.flush()
    _state.update(stream=None, columns=0)
