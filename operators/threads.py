"""A pool of threads for work that releases the GIL: decoding, encoding, copying."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_size = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_here = threading.local()


def size() -> int:
    """Number of threads."""
    return _size


def set_size(threads: int) -> None:
    """Set the number of threads (the setting ``threads``)."""
    global _pool, _size
    with _lock:
        if threads != _size and _pool is not None:
            _pool.shutdown(wait=False)
            _pool = None
        _size = max(1, threads)


def parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``function`` of every item, in order. Runs here where there is one item, one thread, or a pool thread calls."""
    work = list(items)
    if len(work) < 2 or _size == 1 or getattr(_here, "worker", False):
        return [function(item) for item in work]
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_size, "finequery", initializer=lambda: setattr(_here, "worker", True))
        # Each in a context like the caller's: what it allocates is in the account of the caller's query.
        futures = [_pool.submit(contextvars.copy_context().run, function, item) for item in work]
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise
