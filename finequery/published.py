"""What runs in the processes of this user: a small file for each process that has a statement running for long, which
``finequery top`` reads. It lies below $XDG_RUNTIME_DIR, else in the cache folder, for this user's eyes only, and is
gone when nothing runs any more. One that a killed process has left is told by its process identifier and start."""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finequery.progress import PipelineProgress, Progress

#: Seconds between two writings.
EVERY = 0.25
#: Characters of a statement and of a command that are kept.
TEXT = 2000
_last = 0.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process with what it runs. ``time``: seconds since the epoch, when it said so."""

    pid: int
    command: str
    time: float
    queries: tuple[Progress, ...]


def folder() -> Path:
    """Where the files lie."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isdir(base):
        return Path(base) / "finequery"
    from finequery.operators import native

    return native.cache_directory().parent / "running"


def started(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None if there is none. (Identifiers come again.)"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        return int(text.rpartition(")")[2].split()[19])  # behind its name, which may hold anything
    except (OSError, IndexError, ValueError):
        return None


def due() -> bool:
    """Whether it is time to write again."""
    return time.monotonic() - _last >= EVERY


def publish(queries: Sequence[Progress]) -> None:
    """Write the file of this process."""
    global _last
    first = not _last
    _last = time.monotonic()
    pid = os.getpid()
    record = {
        "pid": pid,
        "started": started(pid),
        "command": " ".join([os.path.basename(sys.argv[0]) or "python", *sys.argv[1:]])[:TEXT] if sys.argv else "",
        "time": time.time(),
        "queries": [asdict(query) | {"text": query.text[:TEXT]} for query in queries],
    }
    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = place / f"{pid}.tmp"
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(record, file)
    os.replace(scratch, place / f"{pid}.json")
    if first:
        atexit.register(withdraw)


def withdraw() -> None:
    """Take the file of this process away."""
    with suppress(OSError):
        os.unlink(folder() / f"{os.getpid()}.json")


def processes() -> list[Process]:
    """What the processes of this user run now, those begun first before others."""
    found = []
    for path in sorted(folder().glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(path.read_text(encoding="utf-8"))
            pid = int(record["pid"])
            if record["started"] is not None and started(pid) == record["started"]:
                found.append(Process(pid, record["command"], record["time"], tuple(map(_query, record["queries"]))))
    return found


def _query(record: dict[str, Any]) -> Progress:
    pipelines = tuple(PipelineProgress(**one) for one in record.pop("pipelines"))
    return Progress(**record, pipelines=pipelines)
