"""The worker threads: one per core beside the caller's own, woken through mailboxes in memory.

A worker spins for a while on its mailbox in compiled code, without the GIL, and then blocks on a lock. A job that is
posted to a spinning worker starts in a microsecond or two; one that no worker has begun when the caller is through with
the work is taken back, so a sleeping worker is never waited for (reference: cpu-execution 1.7).
"""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from finequery.jetson import memory
from finequery.operators import native, watch

#: Morsels that a thread takes before it comes back to Python, where a stop is seen: at first, and at the most.
FIRST, MOST = 4, 1024
#: Rows of a range kernel above which more than one thread is woken.
MORE_THREADS = 1 << 14
DONE, AGAIN = 0, 1


class Pool:
    """``threads`` threads in all, the caller's included."""

    def __init__(self, threads: int):
        self.threads = threads
        self.reset()

    def reset(self) -> None:
        """No worker is there yet: at first, and in a child process after a fork."""
        threads = self.threads
        self._ticket = 0
        self._mailboxes = np.zeros((max(threads - 1, 1), 32), dtype=np.int64)
        self._addresses = [memory.address(self._mailboxes[i]) for i in range(threads - 1)]
        self._locks: list[_thread.LockType] = []
        self._asleep = [False] * (threads - 1)
        self._offer = np.zeros(3 + 3 * threads, dtype=np.int64)
        self._started = False
        self._busy = threading.Lock()

    def _start(self) -> None:
        self._started = True
        for i, address in enumerate(self._addresses):
            self._mailboxes[i, 16] = address
            lock = _thread.allocate_lock()
            lock.acquire()
            self._locks.append(lock)
            threading.Thread(target=self._work, args=(i,), name=f"finequery-{i + 1}", daemon=True).start()

    def _work(self, i: int) -> None:
        spin, address, box = native.function("worker"), self._addresses[i], self._mailboxes[i]
        while True:
            if spin(0, 0, 0, address) < 0:
                return
            self._asleep[i] = True
            ticket = int(box[0])
            if (ticket and not ticket & 1) or box[12]:  # a job came between the last look and now
                self._asleep[i] = False
                continue
            self._locks[i].acquire()
            self._asleep[i] = False

    def close(self) -> None:
        """End the worker threads."""
        for i in range(len(self._locks)):
            self._mailboxes[i, 12] = 1
            self._wake(i)

    def _wake(self, i: int) -> None:
        with suppress(RuntimeError):  # the worker was on its way already
            self._locks[i].release()

    def run(self, kernel: str, arguments: Sequence[int]) -> list[int]:
        """Call a kernel once in each of ``len(arguments)`` threads, with its own argument address; their statuses.

        A thread that never began (the others had done all work) reports 0.
        """
        function = native.function(kernel)
        others = min(len(arguments), self.threads) - 1
        if others <= 0:
            return [function(0, 0, 0, arguments[0])]
        with self._busy:
            if not self._started:
                self._start()
            self._ticket += 2
            offer = self._offer
            offer[:3] = others, native.address(kernel), arguments[0]
            for i in range(others):
                offer[3 + 3 * i : 6 + 3 * i] = self._addresses[i], self._ticket, arguments[i + 1]
                if self._asleep[i]:
                    self._wake(i)
            first = native.function("dispatch")(0, 0, 0, memory.address(offer))
            return [first] + [int(self._mailboxes[i, 11]) for i in range(others)]

    def range(
        self, kernel: str, words: Sequence[int], rows: int, morsel: int = 65536, bounds: np.ndarray | None = None
    ) -> int:
        """Drive ``kernel`` as f(first row, end row, thread number, arguments) over ``rows`` rows in morsels, or over
        the ranges between ``bounds``. Returns 0, or the first negative status (the rest is given up then)."""
        arguments = np.array(words, dtype=np.int64)
        if 0 < rows <= morsel and bounds is None:
            return min(native.function(kernel)(0, rows, 0, memory.address(arguments)), 0)
        job, count = new_job(rows, morsel, bounds)
        threads = self.threads if count > 1 and rows > MORE_THREADS else 1
        states = np.zeros((threads, 8), dtype=np.int64)
        states[:, 0] = memory.address(job)
        states[:, 1] = native.address(kernel)
        states[:, 2] = memory.address(arguments)
        states[:, 3] = np.arange(threads)
        budget, running = watch.Budget(FIRST, MOST), watch.current.get()
        states[:, 4] = budget.size
        addresses = [memory.address(states[i]) for i in range(threads)]
        while True:
            budget.begin()
            statuses = self.run("run_range", addresses)
            bad = min(statuses)
            if bad < 0:
                return bad
            if AGAIN not in statuses:
                return 0
            if running is not None:
                running.check()
            states[:, 4] = budget.adapt()


def new_job(rows: int, morsel: int, bounds: np.ndarray | None = None, tile: int = 4096) -> tuple[np.ndarray, int]:
    """The shared words of a job (see primitives.interpreter) and its number of morsels."""
    job = np.zeros(16, dtype=np.int64)
    count = -(-rows // morsel) if bounds is None else len(bounds) - 1
    job[8], job[9], job[10], job[15] = rows, morsel, tile, count
    if bounds is not None:
        assert bounds.dtype == np.int64
        job[14] = memory.address(bounds)
    return job, count


_pools: dict[int, Pool] = {}
_pools_lock = threading.Lock()


def _forget_workers() -> None:
    global _pools_lock
    _pools_lock = threading.Lock()
    for pool in _pools.values():
        pool.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def get_pool(threads: int | None = None) -> Pool:
    """The process's pool of this size (default: one thread per usable core)."""
    if threads is None:
        threads = usable_cores()
    with _pools_lock:
        pool = _pools.get(threads)
        if pool is None:
            pool = _pools[threads] = Pool(threads)
        return pool


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
