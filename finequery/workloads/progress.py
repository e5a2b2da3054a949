"""A progress bar for jobs of several steps: one line on stderr, and nothing at all when stderr is not a terminal."""

from __future__ import annotations

import sys
import time

WIDTH = 28


class Progress:
    """``with Progress("loading", total=8) as bar: bar.step("lineitem")``."""

    def __init__(self, title: str, total: int):
        self.title, self.total, self.done = title, max(1, total), 0
        self.shown = sys.stderr.isatty()
        self.start = time.perf_counter()

    def __enter__(self) -> Progress:
        self.draw("")
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def step(self, label: str = "", count: int = 1) -> None:
        """Count ``count`` units as done; ``label`` says what is being worked on now."""
        self.done = min(self.total, self.done + count)
        self.draw(label)

    def draw(self, label: str) -> None:
        if not self.shown:
            return
        filled = WIDTH * self.done // self.total
        bar = "█" * filled + "·" * (WIDTH - filled)
        elapsed = time.perf_counter() - self.start
        sys.stderr.write(f"\r\x1b[K{self.title} {bar} {self.done}/{self.total} {elapsed:.0f}s {label[:30]}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar away, so that a line can be printed."""
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
