"""A check of what kernels do with memory, for tests: FINEQUERY_GUARD=1 in the environment turns it on.

Kernels get addresses, so nothing stops one that writes past a block, or reads one that Python has let go of. With the
guards on, new blocks are filled with JUNK (a kernel that reads what nobody wrote gives nonsense, not a lucky zero),
the bytes behind a block (which may be read, but not written) are looked at when it is released, and released blocks
are filled with JUNK and held back for a while: what changes in one then was written through an old address. Damage
ends the process, with the place where the block was made.
"""

from __future__ import annotations

import collections
import os
import sys
import traceback
from typing import Any

import numpy as np

JUNK = 0xA5
#: Bytes of released blocks that are watched before they go back to the system.
WATCHED = 1 << 28

_origins: dict[int, tuple[int, list[str]]] = {}  # by address: where the guarded bytes start, and who asked for it
_released: collections.deque[tuple[np.ndarray, list[str]]] = collections.deque()
_released_bytes = 0


def allocate(nbytes: int, alignment: int, padding: int) -> np.ndarray:
    """A block of junk. What is behind the aligned bytes in it that memory.allocate gives out is guarded."""
    raw = np.empty(nbytes, np.uint8)
    raw[:] = JUNK
    end = -raw.ctypes.data % alignment + nbytes - alignment - padding
    _origins[raw.ctypes.data] = (end, traceback.format_stack(sys._getframe(2), 6))
    return raw


def release(raw: np.ndarray) -> None:
    """Look at the guarded bytes of a block that nobody holds any more, and begin to watch it."""
    global _released_bytes
    if sys.is_finalizing():
        return
    origin: Any = _origins.pop(raw.ctypes.data, None)
    if origin is None:
        return
    start, place = origin
    if (raw[start:] != JUNK).any():
        _damaged(f"{int((raw[start:] != JUNK).nonzero()[0].max()) + 1} bytes written past the end of", raw, place)
    raw[:] = JUNK
    _released.append((raw, place))
    _released_bytes += raw.nbytes
    while _released_bytes > WATCHED:
        old, place = _released.popleft()
        _released_bytes -= old.nbytes
        if (old != JUNK).any():
            _damaged("written after its release:", old, place)


def check() -> None:
    """Look at all released blocks that are still watched."""
    for raw, place in list(_released):
        if (raw != JUNK).any():
            _damaged("written after its release:", raw, place)


def _damaged(what: str, raw: np.ndarray, place: list[str]) -> None:
    sys.stderr.write(f"memory damaged: {what} a block of {raw.nbytes} bytes made here\n{''.join(place)}")
    sys.stderr.flush()
    os.abort()
