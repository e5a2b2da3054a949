"""A pool of threads for work that releases the GIL: decoding, encoding, copying."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

from finequery.operators import watch

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


def parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``function`` of every item, in order. The calling thread works too, and waits for no helper that has not begun.
    All runs here where there is one item, one thread, or a pool thread calls. A query that is to stop begins no
    item."""
    work, check = list(items), watch.check
    if len(work) < 2 or _size == 1 or getattr(_here, "worker", False):
        found = []
        for item in work:
            check()
            found.append(function(item))
        return found
    results: dict[int, Result] = {}
    left = iter(range(len(work)))  # shared: each number goes to one thread

    def drain() -> None:
        for place in left:
            check()
            results[place] = function(work[place])

    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_size, "finequery", initializer=lambda: setattr(_here, "worker", True))
        # Each in a context like the caller's: what it allocates is in the account of the caller's query.
        helpers = [_pool.submit(copy_context().run, drain) for _ in range(min(_size, len(work)) - 1)]
    _here.worker = True
    try:
        drain()
    finally:
        _here.worker = False
        for _ in left:  # after an error: nobody begins another item
            pass
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()
    return [results[place] for place in range(len(work))]
