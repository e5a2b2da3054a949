"""What was typed in earlier sessions: a file with one JSON text a line, so that statements keep their lines."""

from __future__ import annotations

import contextlib
import json
import os

#: Entries that are read, the newest.
ENTRIES = 5000


def path() -> str:
    """$FINEQUERY_HISTORY, or ~/.finequery_history."""
    return os.environ.get("FINEQUERY_HISTORY") or os.path.join(os.path.expanduser("~"), ".finequery_history")


def load() -> list[str]:
    """Entries, the oldest first; without those that came twice in a row and lines that are damaged."""
    found: list[str] = []
    try:
        with open(path(), encoding="utf-8", errors="replace") as file:
            lines = file.readlines()[-ENTRIES:]
    except OSError:
        return found
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, str) and entry.strip() and found[-1:] != [entry]:
                found.append(entry)
    return found


def append(entry: str) -> None:
    """Add an entry at once, so that sessions side by side keep both their own. A home that can't be written to is no
    error."""
    with contextlib.suppress(OSError):
        file = os.open(path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
        finally:
            os.close(file)
