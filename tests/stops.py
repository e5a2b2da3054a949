"""Telling what runs to stop, from beside it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def stopping(stop: Callable[[], Any], after: float, again: float = 0.2) -> Iterator[None]:
    """Call ``stop`` after so many seconds, and again until the block is left: on a busy machine the first may come
    before there is anything to stop."""
    done = threading.Event()

    def stops() -> None:
        pause = after
        while not done.wait(pause):
            stop()
            pause = again

    helper = threading.Thread(target=stops)
    helper.start()
    try:
        yield
    finally:
        with contextlib.suppress(KeyboardInterrupt):  # one that was pressed as the block was left
            done.set()
            helper.join()
        done.set()
        helper.join()
