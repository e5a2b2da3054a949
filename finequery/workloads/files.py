"""Where generated data is kept, and how files come there."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Where generated data is kept: ``$FINEQUERY_CACHE``, or ``~/.cache/finequery``."""
    return Path(os.environ.get("FINEQUERY_CACHE") or Path.home() / ".cache" / "finequery")


def publish(temporary: Path, folder: Path) -> None:
    """Move finished files into ``folder``, one by one, so that a reader or a second writer never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in temporary.iterdir():
        os.replace(file, folder / file.name)
