"""Many blocks out of few allocations.

Pinned, managed and device memory is slow to get and to give back (the driver waits for the device), so it is taken in
slabs of 64 MiB, and blocks are cut from them: the smallest free range that fits, what is left of it stays free, and a
range that comes back is joined with its free neighbours. Small blocks wait for the next of their size before that,
since queries ask for the same sizes again and again. Sizes are not rounded to classes: this memory is never paged out.
Pageable memory needs none of this: the C library does it, and ``memory`` keeps large blocks.
"""

from __future__ import annotations

import collections
import ctypes
import threading
from bisect import bisect_left, insort
from collections.abc import Callable

import numpy as np

SLAB = 64 << 20
#: Blocks up to this size wait for others of their size, up to so many bytes in all.
SMALL, MOST_WAITING = 1 << 16, 1 << 22


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
        self._waiting: dict[int, list[Piece]] = {}  # small ones that came back, by size
        self._waiting_bytes = 0

    def take(self, nbytes: int) -> Piece:
        """A block. Raises what ``obtain`` raises if there is no more, after giving empty slabs back."""
        size = max(-(-nbytes // self._alignment), 1) * self._alignment
        with self._lock:
            if self._returned:
                self._collect()
            waiting = self._waiting.get(size)
            if waiting:
                piece = waiting.pop()
                self._waiting_bytes -= size
                piece.fresh = False
                return piece
            place = bisect_left(self._free, (size, 0, 0))
            if place == len(self._free):
                self._join_waiting()
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
            self._collect()
            self._join_waiting()
            self._release_empty(keep)

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
            self._collect()
            return sum(size for size, _, _ in self._free) + self._waiting_bytes

    def _grow(self, size: int) -> None:
        nbytes = size if size > self._slab // 2 else self._slab
        try:
            slab = self._obtain(nbytes)
        except Exception:
            self._release_empty(0)
            slab = self._obtain(size if size > self._slab // 2 else max(size, self._slab // 16))
        self._slabs = [*self._slabs, slab]  # never changed in place: ``find`` reads it without the lock
        self._by_address[slab.device] = slab
        self._put_range(slab, 0, slab.nbytes)

    def _collect(self) -> None:
        """Take in what was given back."""
        joined = False
        while self._returned:
            piece = self._returned.popleft()
            if piece.nbytes <= SMALL:
                self._waiting.setdefault(piece.nbytes, []).append(piece)
                self._waiting_bytes += piece.nbytes
            else:
                self._join(piece)
                joined = True
        if self._waiting_bytes > MOST_WAITING:
            self._join_waiting()
            joined = True
        if joined:
            self._release_empty(self._keep)

    def _join(self, piece: Piece) -> None:
        """Make a block a free range, one with the free ranges on both sides of it."""
        slab, start, end = piece.slab, piece.start, piece.start + piece.nbytes
        if end in slab.starts:
            end = self._take_range(slab, end)
        if start in slab.ends:
            start = slab.ends[start]
            self._take_range(slab, start)
        self._put_range(slab, start, end)

    def _join_waiting(self) -> None:
        for pieces in self._waiting.values():
            for piece in pieces:
                self._join(piece)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _release_empty(self, keep: int) -> None:
        empty = [slab for slab in self._slabs if slab.starts.get(0) == slab.nbytes]
        spare = sum(slab.nbytes for slab in empty)
        for slab in empty:
            if spare <= keep:
                break
            spare -= slab.nbytes
            self._take_range(slab, 0)
            self._slabs = [other for other in self._slabs if other is not slab]
            del self._by_address[slab.device]
            self._release(slab)

    def _put_range(self, slab: Slab, start: int, end: int) -> None:
        slab.starts[start], slab.ends[end] = end, start
        insort(self._free, (end - start, slab.device, start))

    def _take_range(self, slab: Slab, start: int) -> int:
        end = slab.starts.pop(start)
        del slab.ends[end]
        del self._free[bisect_left(self._free, (end - start, slab.device, start))]
        return end
