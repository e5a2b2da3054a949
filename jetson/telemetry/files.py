"""The files of /sys and /proc, under a root that tests may choose."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path


def read_bytes(path: str) -> bytes:
    """A small file in one read, past Python's buffers: sysfs files of sensors that are off fail with EAGAIN, which
    those take for the end of a text."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.read(handle, 1 << 16)
    finally:
        os.close(handle)


class Files:
    """Files under ``root``. ``refused`` are those that are there but that this user may not read."""

    def __init__(self, root: str | Path = "/"):
        self.root = Path(root)
        self.refused: list[str] = []

    def text(self, path: str | Path) -> str:
        """What a file says; "" where there is none or it can't be read."""
        full = os.path.join(self.root, str(path).lstrip("/"))
        try:
            return read_bytes(full).decode("utf-8", "replace").strip("\0\n ")
        except PermissionError:
            if full not in self.refused:
                self.refused.append(full)
        except OSError:
            pass
        return ""

    def number(self, path: str | Path) -> float | None:
        """The number that a file holds."""
        try:
            return float(self.text(path).split()[0])
        except (ValueError, IndexError):
            return None

    def glob(self, *patterns: str) -> Iterator[str]:
        """Paths below the root, as this class takes them, in the order of the patterns, each place once. Folders that
        may not be read have nothing in them."""
        seen = set()
        for pattern in patterns:
            for path in sorted(self.root.glob(pattern.lstrip("/")), key=_natural):
                real = os.path.realpath(path)
                if real not in seen:
                    seen.add(real)
                    yield str(path.relative_to(self.root))


def _natural(path: Path) -> tuple[str, list[str | int]]:
    """cpu2 before cpu10: text and numbers take turns."""
    return str(path.parent), [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
