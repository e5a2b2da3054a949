"""Which host arrays have a copy in the device's memory.

A copy belongs to the host block it was made of, found by the block's identity and the range of bytes in it, and ends
with the block. It is kept between queries within a limit; what was used longest ago goes first, but never what a
running query has pinned. Blocks that still change must not be asked for: a copy is not renewed (``drop`` it).
"""

from __future__ import annotations

import collections
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.errors import OutOfMemoryError
from finequery.jetson.accounts import readable
from finequery.jetson.memory import DeviceBlock, address, block_of

#: Makes a kernel argument: address, count, dtype, what it keeps alive.
MakeArgument = Callable[[int, int, Any, object], Any]


@dataclass(eq=False)
class _Copy:
    """Bytes ``start`` to ``end`` of a block, from ``address`` on in memory that ``owner`` keeps."""

    start: int
    end: int
    address: int
    owner: object
    arguments: dict[tuple[int, int, str], Any] = field(default_factory=dict)  # making one takes tens of microseconds


class _Ref(weakref.ref[np.ndarray]):
    """A reference to a block that remembers its identity."""

    __slots__ = ("key",)
    key: int


@dataclass(eq=False)
class Entry:
    """The copies of one block."""

    block: _Ref
    copies: list[_Copy] = field(default_factory=list)
    pins: int = 0

    @property
    def nbytes(self) -> int:
        return sum(copy.end - copy.start for copy in self.copies)


class Residency:
    """Copies on one device. ``upload`` copies an array to a block of the device's memory."""

    def __init__(self, limit: int, upload: Callable[[np.ndarray, DeviceBlock], None], argument: MakeArgument) -> None:
        self.limit = limit
        self._upload, self._argument = upload, argument
        self._lock = threading.RLock()
        self._entries: collections.OrderedDict[int, Entry] = collections.OrderedDict()  # oldest use first
        self._dead: collections.deque[Any] = collections.deque()  # references to blocks that have ended

    def view(self, array: np.ndarray) -> tuple[Any, Entry | None]:
        """A kernel argument over the array's copy, which is made if there is none, and the entry that holds it.
        Arrays outside of the engine's blocks may change or go without notice: they are copied each time."""
        block = block_of(array)
        if block is None:
            target = self._room(array.nbytes)
            self._upload(array, target)
            return self._argument(target.address, array.size, array.dtype, target), None
        start = address(array) - address(block)
        end = start + array.nbytes
        with self._lock:
            entry = self._entry(block)
            for copy in entry.copies:
                if copy.start <= start and end <= copy.end:
                    break
            else:
                entry.pins += 1  # not to be evicted for its own room
                try:
                    target = self._room(array.nbytes)
                finally:
                    entry.pins -= 1
                self._upload(array, target)
                copy = _Copy(start, end, target.address, target)
                entry.copies = [c for c in entry.copies if not (start <= c.start and c.end <= end)] + [copy]
            key = (start, array.size, array.dtype.str)
            argument = copy.arguments.get(key)
            if argument is None:
                argument = self._argument(copy.address + start - copy.start, array.size, array.dtype, copy.owner)
                copy.arguments[key] = argument
            return argument, entry

    def adopt(self, array: np.ndarray, argument: Any, where: int) -> None:
        """Take memory of the device at an address, which ``argument`` keeps, as the copy of a block's array."""
        block = block_of(array)
        if block is None:
            return
        start = address(array) - address(block)
        with self._lock:
            copy = _Copy(start, start + array.nbytes, where, argument)
            copy.arguments[start, array.size, array.dtype.str] = argument
            entry = self._entry(block)
            entry.pins += 1
            try:
                self._make_room(array.nbytes)
                entry.copies.append(copy)
            except OutOfMemoryError:
                pass  # it stays the caller's alone
            finally:
                entry.pins -= 1

    def drop(self, array: np.ndarray) -> None:
        """Forget the copies of an array's block, as before it is written again."""
        with self._lock:
            self._entries.pop(id(block_of(array)), None)

    def set_limit(self, nbytes: int) -> None:
        """Another limit. What is beyond it goes, but for what running queries have pinned."""
        if nbytes != self.limit:
            with self._lock:
                self.limit = nbytes
                while self.nbytes > nbytes and self.evict():
                    pass

    def pin(self, entry: Entry, by: int) -> None:
        """Keep an entry from eviction (1), or no longer (-1)."""
        with self._lock:
            entry.pins += by

    def clear(self) -> None:
        """Forget everything that no query has pinned."""
        with self._lock:
            self._collect()
            for key in [key for key, entry in self._entries.items() if not entry.pins]:
                del self._entries[key]

    @property
    def nbytes(self) -> int:
        """Bytes of copies."""
        with self._lock:
            self._collect()
            return sum(entry.nbytes for entry in self._entries.values())

    def _entry(self, block: np.ndarray) -> Entry:
        self._collect()
        key = id(block)
        entry = self._entries.get(key)
        if entry is None:
            # A block may end at any time, also while this thread holds the lock: that is only noted.
            reference = _Ref(block, self._dead.append)
            reference.key = key
            entry = self._entries[key] = Entry(reference)
        self._entries.move_to_end(key)
        return entry

    def _collect(self) -> None:
        while self._dead:
            reference = self._dead.popleft()
            entry = self._entries.get(reference.key)
            if entry is not None and entry.block is reference:
                del self._entries[reference.key]

    def _room(self, nbytes: int) -> DeviceBlock:
        """Memory for a copy. What was used longest ago makes room: within the limit, and where the device has none."""
        with self._lock:
            self._collect()
            self._make_room(nbytes)
            while True:
                try:
                    return DeviceBlock(nbytes)
                except OutOfMemoryError:
                    if not self.evict():
                        raise

    def _make_room(self, nbytes: int) -> None:
        held = sum(entry.nbytes for entry in self._entries.values())
        while held + nbytes > self.limit:
            freed = self.evict()
            if not freed:
                raise OutOfMemoryError(
                    f"device memory: {readable(nbytes)} more would pass the limit of {readable(self.limit)} for "
                    f"columns on the GPU ({readable(held)} in use by running queries)",
                    hint="SET device = 'cpu', or let the query read fewer columns.",
                )
            held -= freed

    def evict(self) -> int:
        """Forget the copies that were used longest ago and that no query has pinned; how many bytes that gives."""
        with self._lock:
            for key, entry in self._entries.items():
                if not entry.pins and entry.copies:
                    del self._entries[key]
                    return entry.nbytes
            return 0
