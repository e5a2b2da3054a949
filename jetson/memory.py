"""Memory for columns: aligned, padded, counted against a limit.

Every block starts on a 64-byte boundary and may be read for PADDING bytes past its end, so that kernels load whole
vectors. A block lives as long as any numpy view on it; what is alive is counted, and an allocation that would pass the
limit is refused. Memory kinds other than pageable host memory (mapped, managed, device) join here.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from finequery.errors import NotSupportedError, OutOfMemoryError

ALIGNMENT = 64
PADDING = 64

_lock = threading.RLock()  # re-entrant: a block may be freed by the garbage collector while the lock is held
_live = 0
_peak = 0
_limit: int | None = None


_Byte = ctypes.c_char.from_buffer


class _Block(np.ndarray):
    """The array that owns the bytes. numpy keeps it as the ``base`` of all views on it; its end ends the count."""

    counted: int = 0

    def __del__(self) -> None:
        if _lock is None:  # the interpreter ends
            return
        if self.counted:
            _count(-self.counted)
        if type(self.base) is not np.ndarray:  # views on a _Block have it as base: not they
            return
        if guards is not None:
            guards.release(self.base)
        elif self.base.nbytes >= LARGE:
            _keep(self.base)


#: Blocks from this size on are kept for the next use: fresh pages cost more than most kernels that fill them.
LARGE = 1 << 20
_kept: dict[int, list[np.ndarray]] = {}
_kept_bytes = 0


def _guards() -> Any:
    """The module that checks all blocks, if the environment variable FINEQUERY_GUARD asks for it."""
    import os

    if not os.environ.get("FINEQUERY_GUARD"):
        return None
    from finequery.jetson import guards

    return guards


guards = _guards()


def _size_class(nbytes: int) -> int:
    """``nbytes`` rounded up to one of four steps between powers of two."""
    step = 1 << max(nbytes.bit_length() - 3, 12)
    return -(-nbytes // step) * step


def _most_kept() -> int:
    """How much may be kept: a sixteenth of the machine's memory."""
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 16
    except (ValueError, OSError, AttributeError):
        return 1 << 28


MOST_KEPT = _most_kept()


def _keep(raw: np.ndarray) -> None:
    global _kept_bytes
    with _lock:
        if _kept_bytes + raw.nbytes <= MOST_KEPT:
            _kept.setdefault(raw.nbytes, []).append(raw)
            _kept_bytes += raw.nbytes


def _raw(nbytes: int) -> np.ndarray:
    """Bytes from the kept blocks, or new."""
    global _kept_bytes
    if guards is not None:
        return guards.allocate(nbytes, ALIGNMENT, PADDING)
    if nbytes < LARGE:
        return np.empty(nbytes, np.uint8)
    size = _size_class(nbytes)
    with _lock:
        found = _kept.get(size)
        if found:
            _kept_bytes -= size
            return found.pop()
    return np.empty(size, np.uint8)


def trim() -> None:
    """Give kept blocks back to the system."""
    global _kept_bytes
    with _lock:
        _kept.clear()
        _kept_bytes = 0


def _count(nbytes: int) -> None:
    global _live, _peak
    with _lock:
        if nbytes > 0 and _limit is not None and _live + nbytes > _limit:
            raise OutOfMemoryError(
                f"host memory: {readable(nbytes)} more would pass the memory_limit of {readable(_limit)} "
                f"({readable(_live)} in use)",
                hint="Raise it with SET memory_limit = '…', or drop tables that are no longer needed.",
            )
        _live += nbytes
        _peak = max(_peak, _live)


def allocate(nbytes: int, kind: str = "pageable", *, counted: bool = True) -> np.ndarray:
    """``nbytes`` uninitialised bytes. A large block is one that was freed before, or new from the system, where
    untouched pages cost nothing; ``counted=False`` is for rooms of which little will be touched (see ``require``)."""
    if kind != "pageable":
        raise NotSupportedError(f"memory kind {kind!r}: this build allocates pageable host memory alone")
    total = nbytes + ALIGNMENT + PADDING
    if counted:
        _count(total)
    try:
        block = _raw(total).view(_Block)
    except MemoryError:
        if counted:
            _count(-total)
        raise OutOfMemoryError(
            f"host memory: the system refused {readable(nbytes)}",
            hint="Lower memory_limit so that FineQuery stops before the system does, or free memory.",
        ) from None
    block.counted = total if counted else 0
    start = -address(block) % ALIGNMENT
    # numpy shortens chains of views only among arrays of one type: the plain view's base is the _Block, never past it.
    return block[start : start + nbytes].view(np.ndarray)


def address(array: np.ndarray) -> int:
    """Where an array's first entry lies. ``array.ctypes.data`` says the same in four times the time."""
    try:
        return ctypes.addressof(_Byte(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # empty, read-only or with gaps
        return array.ctypes.data


def require(nbytes: int, what: str) -> None:
    """Refuse a temporary of ``nbytes`` that would pass the limit together with what is alive. Not counted itself."""
    if _limit is not None and _live + nbytes > _limit:
        raise OutOfMemoryError(
            f"host memory: {what} of {readable(nbytes)} would pass the memory_limit of {readable(_limit)} "
            f"({readable(_live)} in use)",
            hint="Raise it with SET memory_limit = '…', or let the query touch fewer rows or columns.",
        )


def array(shape: int | tuple[int, ...], dtype: Any, *, zero: bool = False, counted: bool = True) -> np.ndarray:
    """An uninitialised (or zeroed) array over a block of its own."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape)) if isinstance(shape, tuple) else shape
    result = allocate(count * dtype.itemsize, counted=counted).view(dtype).reshape(shape)
    if zero:
        result[...] = 0
    return result


def live() -> int:
    """Bytes in use."""
    return _live


def peak() -> int:
    """Most bytes ever in use since the start or ``reset_peak``."""
    return _peak


def reset_peak() -> None:
    """Start a new peak from what is in use now."""
    global _peak
    with _lock:
        _peak = _live


def limit() -> int | None:
    """The setting memory_limit in bytes; None: no limit."""
    return _limit


def set_limit(nbytes: int | None) -> None:
    """Set memory_limit. What is in use already stays."""
    global _limit
    with _lock:
        _limit = nbytes


def readable(nbytes: int) -> str:
    """Bytes for people.

    >>> readable(1536)
    '1.5 KiB'
    """
    size = float(nbytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
