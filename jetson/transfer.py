"""Copies between host and device through pinned buffers, beside the kernels that run.

The driver copies asynchronously only from and to pinned memory. So pageable bytes go through two pinned buffers by
turns: while one is on its way over the bus, the CPU fills the other. Copies have a stream of their own; events order
them with the stream of the kernels where bytes are shared.
"""

from __future__ import annotations

import collections
import threading

import numpy as np

from finequery.jetson import accounts, memory
from finequery.jetson.driver import Driver

#: Bytes of a staging buffer: a copy of 4 MiB takes longer than its start on every bus.
STAGING = 4 << 20
_BUFFERS = 2


class Transfers:
    """The copies of one device. ``kernels`` is the stream whose work they are ordered with."""

    def __init__(self, driver: Driver, kernels: int) -> None:
        self.moved = accounts.Moved()
        self._driver, self._kernels = driver, kernels
        self._lock = threading.Lock()
        self._stream = driver.stream(independent=True)
        self._done = driver.event()
        self._buffers: list[tuple[np.ndarray, int]] = []  # with the event of its last copy

    def to_device(self, source: np.ndarray, target: int, *, fresh: bool = False) -> None:
        """Copy a contiguous array to the device. Later kernels see it. Pinned sources are read until then, others
        have been read on return. ``fresh``: no kernel that may still run has ever used the target."""
        raw = source.reshape(-1).view(np.uint8)
        with self._lock:
            self._driver.use()
            if not fresh:
                self._order(self._kernels, self._stream)
            if memory.kind_of(source) == "mapped":
                self._driver.copy_in(target, raw.ctypes.data, raw.nbytes, self._stream)
            else:
                for i, start in enumerate(range(0, raw.nbytes, STAGING)):
                    buffer, event = self._staging(i)
                    self._driver.finish_event(event)  # its last copy
                    size = min(STAGING, raw.nbytes - start)
                    buffer[:size] = raw[start : start + size]
                    self._driver.copy_in(target + start, buffer.ctypes.data, size, self._stream)
                    self._driver.record(event, self._stream)
            self._order(self._stream, self._kernels)
            accounts.count("to_device", raw.nbytes, self.moved)

    def to_host(self, source: int, target: np.ndarray) -> None:
        """Copy from the device into a contiguous array, after all kernels before. The bytes are there on return."""
        raw = target.reshape(-1).view(np.uint8)
        waiting: collections.deque[tuple[np.ndarray, int, int, int]] = collections.deque()

        def finish() -> None:
            buffer, event, start, size = waiting.popleft()
            self._driver.finish_event(event)
            raw[start : start + size] = buffer[:size]

        with self._lock:
            self._driver.use()
            self._order(self._kernels, self._stream)
            for i, start in enumerate(range(0, raw.nbytes, STAGING)):
                if len(waiting) == _BUFFERS:
                    finish()
                buffer, event = self._staging(i)
                size = min(STAGING, raw.nbytes - start)
                # A copy into the buffer comes after those out of it: they are on the same stream.
                self._driver.copy_out(buffer.ctypes.data, source + start, size, self._stream)
                self._driver.record(event, self._stream)
                waiting.append((buffer, event, start, size))
            while waiting:
                finish()
            accounts.count("to_host", raw.nbytes, self.moved)

    def _staging(self, turn: int) -> tuple[np.ndarray, int]:
        while len(self._buffers) < _BUFFERS:
            buffer = memory.allocate(STAGING, "mapped", counted=False)
            self._buffers.append((buffer, self._driver.event()))
        return self._buffers[turn % _BUFFERS]

    def _order(self, first: int, second: int) -> None:
        """What comes on the second stream waits for what is on the first."""
        self._driver.record(self._done, first)
        self._driver.wait(second, self._done)
