"""Many blocks out of few allocations.

Pinned, managed and device memory is slow to get and to give back (the driver waits for the device), so it is taken in
slabs of 64 MiB, and blocks are cut from them: the smallest free range that fits, what is left of it stays free, and a
range that comes back is joined with its free neighbours. Sizes are not rounded to classes, since this memory is never
paged out. Pageable memory needs none of this: the C library does it, and ``memory`` keeps large blocks.
"""

from __future__ import annotations

import collections
import ctypes
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

import numpy as np

SLAB = 64 << 20


class Slab:
    """One allocation. ``host`` and ``device`` are its addresses, 0 where that side can't reach it."""

    __slots__ = ("bytes", "device", "ends", "host", "nbytes", "starts", "touched")

    def __init__(self, host: int, device: int, nbytes: int) -> None:
        self.host, self.device, self.nbytes = host, device, nbytes
        self.bytes: np.ndarray | None = None
        if host:
            self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(host))
        self.starts: dict[int, int] = {}  # free ranges: start to end
        self.ends: dict[int, int] = {}  # and end to start
        self.touched = 0  # nothing from here on was ever given out


class Piece:
    """A range of a slab that is in use. ``fresh``: its bytes were in no block before."""

    __slots__ = ("_returned", "fresh", "nbytes", "slab", "start")

    def __init__(self, slab: Slab, start: int, nbytes: int, fresh: bool, returned: collections.deque[Piece]) -> None:
        self.slab, self.start, self.nbytes, self.fresh, self._returned = slab, start, nbytes, fresh, returned

    def give(self) -> None:
        """It is no longer in use. Takes no lock: blocks end in the garbage collector, which may come at any time, also
        while this thread holds the lock. So it is only noted; the next who takes puts it among the free ranges."""
        self._returned.append(self)

    @property
    def device(self) -> int:
        """The device's address of the first byte."""
        return self.slab.device + self.start


class Slabs:
    """Blocks of one kind of memory. ``obtain`` makes a slab of at least so many bytes, ``release`` ends one; slabs in
    which nothing is in use are kept up to ``keep`` bytes."""

    def __init__(
        self,
        obtain: Callable[[int], Slab],
        release: Callable[[Slab], None],
        *,
        alignment: int = 64,
        slab: int = SLAB,
        keep: int = SLAB,
    ) -> None:
        self._obtain, self._release = obtain, release
        self._alignment, self._slab, self._keep = alignment, slab, keep
        self._lock = threading.Lock()
        self._slabs: list[Slab] = []
        self._free: list[tuple[int, int, int]] = []  # sorted: bytes, the slab's address, start
        self._by_address: dict[int, Slab] = {}
        self._returned: collections.deque[Piece] = collections.deque()

    def take(self, nbytes: int) -> Piece:
        """A block. Raises what ``obtain`` raises if there is no more, after giving empty slabs back."""
        size = max(-(-nbytes // self._alignment), 1) * self._alignment
        with self._lock:
            self._collect()
            place = bisect_left(self._free, (size, 0, 0))
            if place == len(self._free):
                self._grow(size)
                place = bisect_left(self._free, (size, 0, 0))
            _, address, start = self._free[place]
            slab = self._by_address[address]
            end = self._take_range(slab, start)
            if end > start + size:
                self._put_range(slab, start + size, end)
            fresh = start >= slab.touched
            slab.touched = max(slab.touched, start + size)
            return Piece(slab, start, size, fresh, self._returned)

    def trim(self, keep: int = 0) -> None:
        """End slabs in which nothing is in use, as long as they hold more than ``keep`` bytes."""
        with self._lock:
            self._collect(keep)

    def find(self, host: int) -> Slab | None:
        """The slab around an address of the host."""
        for slab in self._slabs:
            if slab.host and slab.host <= host < slab.host + slab.nbytes:
                return slab
        return None

    @property
    def reserved(self) -> int:
        """Bytes in slabs."""
        return sum(slab.nbytes for slab in self._slabs)

    @property
    def free(self) -> int:
        """Bytes in slabs that are not in use."""
        with self._lock:
            self._collect(self.reserved)
            return sum(size for size, _, _ in self._free)

    def _grow(self, size: int) -> None:
        nbytes = size if size > self._slab // 2 else self._slab
        try:
            slab = self._obtain(nbytes)
        except Exception:
            self._collect(0)
            slab = self._obtain(size if size > self._slab // 2 else max(size, self._slab // 16))
        self._slabs.append(slab)
        self._by_address[slab.device] = slab
        self._put_range(slab, 0, slab.nbytes)

    def _collect(self, keep: int | None = None) -> None:
        while self._returned:
            piece = self._returned.popleft()
            slab, start, end = piece.slab, piece.start, piece.start + piece.nbytes
            if end in slab.starts:
                end = self._take_range(slab, end)
            if start in slab.ends:
                start = slab.ends[start]
                self._take_range(slab, start)
            self._put_range(slab, start, end)
        empty = list(self._empty())
        spare = sum(slab.nbytes for slab in empty)
        for slab in empty:
            if spare <= (self._keep if keep is None else keep):
                break
            spare -= slab.nbytes
            self._take_range(slab, 0)
            self._slabs.remove(slab)
            del self._by_address[slab.device]
            self._release(slab)

    def _empty(self) -> Iterator[Slab]:
        return (slab for slab in self._slabs if slab.starts.get(0) == slab.nbytes)

    def _put_range(self, slab: Slab, start: int, end: int) -> None:
        slab.starts[start], slab.ends[end] = end, start
        insort(self._free, (end - start, slab.device, start))

    def _take_range(self, slab: Slab, start: int) -> int:
        end = slab.starts.pop(start)
        del slab.ends[end]
        del self._free[bisect_left(self._free, (end - start, slab.device, start))]
        return end
