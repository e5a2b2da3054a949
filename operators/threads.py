"""A pool of threads for work that releases the GIL: decoding, encoding, copying."""

from __future__ import annotations

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


def _forget() -> None:
    """In a child process after a fork: the threads are the parent's."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


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
        futures = [_pool.submit(function, item) for item in work]
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise
