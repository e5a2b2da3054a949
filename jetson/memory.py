"""Memory for columns: aligned, padded, of a kind, counted against a limit.

Every block starts on a 64-byte boundary and may be read for PADDING bytes past its end, so that kernels load whole
vectors. A block lives as long as any numpy view on it; what is alive is counted (``accounts``), and an allocation that
would pass the limit is refused.

===========  ==========================  ======================================================================
kind         reached by                  for
===========  ==========================  ======================================================================
pageable     CPU                         everything where no device shares the memory; rooms that stay mostly empty
mapped       CPU; GPU past its cache     what both work with on an integrated device: columns, groups, results
managed      CPU and GPU, cached         look-ups there, if the CPU may touch them while kernels run
device       GPU, cached                 tables and intermediate results of the GPU
===========  ==========================  ======================================================================

The array is the host's view of a block, always an exact ``numpy.ndarray``; ``arrow`` gives Arrow's and
``device_address`` the device's, of the same bytes. Memory that only the device reaches is a ``DeviceBlock``.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.errors import NotSupportedError, OperationalError, OutOfMemoryError
from finequery.jetson import accounts
from finequery.jetson.accounts import (
    KINDS,
    Account,
    accounting,
    limit,
    live,
    peak,
    readable,
    require,
    reset_peak,
    set_limit,
)

if TYPE_CHECKING:
    import pyarrow

    from finequery.jetson.slabs import Piece, Slabs

ALIGNMENT = 64
DEVICE_ALIGNMENT = 256
PADDING = 64


_Byte = ctypes.c_char.from_buffer


class _Block(np.ndarray):
    """The array that owns the bytes. numpy keeps it as the ``base`` of all views on it; its end ends the count."""

    counted: int = 0
    kind: str = "pageable"
    account: Account | None = None
    piece: Piece | None = None  # of a slab

    def __del__(self) -> None:
        if _lock is None:  # the interpreter ends
            return
        if self.counted:
            accounts.add(-self.counted, self.kind, self.account)
        if self.piece is not None:
            self.piece.give()
            return
        if type(self.base) is not np.ndarray:  # views on a _Block have it as base: not they
            return
        if guards is not None:
            guards.release(self.base)
        elif self.base.nbytes >= LARGE:
            _keep(self.base)


class _Steady(_Block):
    """Memory of others that does not change while it is there, such as a file's pages: a device may keep a copy."""

    def __del__(self) -> None:
        pass


def steady(array: np.ndarray) -> np.ndarray:
    """The array as a block: what holds its bytes promises that nobody writes them."""
    return array.view(_Steady)[:].view(np.ndarray)  # see ``allocate``


#: Blocks from this size on are kept for the next use: fresh pages cost more than most kernels that fill them.
LARGE = 1 << 20
_lock = threading.RLock()  # re-entrant: a block may be freed by the garbage collector while the lock is held
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
    """How much may be kept: a sixteenth of the machine's memory (and an eighth of memory_limit)."""
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 16
    except (ValueError, OSError, AttributeError):
        return 1 << 28


MOST_KEPT = _most_kept()


def _keep(raw: np.ndarray) -> None:
    global _kept_bytes
    most = accounts.limit()
    with _lock:
        if _kept_bytes + raw.nbytes <= (MOST_KEPT if most is None else min(MOST_KEPT, most // 8)):
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
        most = accounts.limit()
        if most is not None and accounts.live() + _kept_bytes > most:
            _kept.clear()
            _kept_bytes = 0
    return np.empty(size, np.uint8)


def trim() -> None:
    """Give kept blocks and empty slabs back to the system, and ``unused`` memory."""
    global _kept_bytes
    with _lock:
        _kept.clear()
        _kept_bytes = 0
    for slabs in list(_slabs.values()):
        slabs.trim()
    unused()


def unused() -> None:
    """Give back to the system what the C library and Arrow keep of freed memory: after large intermediate results that
    is more than is in use. Takes milliseconds."""
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)


def allocate(nbytes: int, kind: str | None = None, *, counted: bool = True) -> np.ndarray:
    """``nbytes`` uninitialised bytes, of the query's kind (``default_kind``) unless another is named.

    A large pageable block is one that was freed before, or new from the system, where untouched pages cost nothing.
    ``counted=False`` leaves rooms out of the accounts of which little may be touched, until ``used`` says what was.
    """
    if kind is None:
        kind = default_kind()
        counted = counted or kind != "pageable"  # other kinds have no untouched pages
    if kind != "pageable":
        return _allocate_mapped(nbytes, kind, counted)
    total = nbytes + ALIGNMENT + PADDING
    account = None
    if counted:
        account = accounts.current.get()
        accounts.add(total, "pageable", account)
    try:
        block = _raw(total).view(_Block)
    except MemoryError:
        if counted:
            accounts.add(-total, "pageable", account)
        raise OutOfMemoryError(
            f"host memory: the system refused {readable(nbytes)}",
            hint="Lower memory_limit so that FineQuery stops before the system does, or free memory.",
        ) from None
    if counted:
        block.counted = total
        if account is not None:
            block.account = account
    start = -address(block) % ALIGNMENT
    # numpy shortens chains of views only among arrays of one type: the plain view's base is the _Block, never past it.
    return block[start : start + nbytes].view(np.ndarray)


def used(array: np.ndarray, nbytes: int) -> None:
    """Count so many bytes, those that were written, of a block that is not counted; small ones are not worth it.
    ``OutOfMemoryError`` where that passes the limit."""
    block = block_of(array) if nbytes >= LARGE else None
    if isinstance(block, _Block) and not block.counted:
        account = accounts.current.get()
        accounts.add(nbytes, block.kind, account)
        block.counted, block.account = nbytes, account


def address(array: np.ndarray) -> int:
    """Where an array's first entry lies. ``array.ctypes.data`` says the same in four times the time."""
    try:
        return ctypes.addressof(_Byte(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # empty, read-only or with gaps
        return array.ctypes.data


def array(
    shape: int | tuple[int, ...], dtype: Any, *, zero: bool = False, counted: bool = True, kind: str | None = None
) -> np.ndarray:
    """An uninitialised (or zeroed) array over a block of its own."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape)) if isinstance(shape, tuple) else shape
    result = allocate(count * dtype.itemsize, kind, counted=counted).view(dtype).reshape(shape)
    if zero:
        result[...] = 0
    return result


def zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """A small array for a query's kernels: a block where a GPU shares the memory, else numpy's, which costs less."""
    kind = default_kind()
    return np.zeros(shape, dtype) if kind == "pageable" else array(shape, dtype, zero=True, kind=kind)


def settled(array: np.ndarray) -> np.ndarray:
    """The array where the query's kernels reach it: itself, or a copy in its kind of memory of what was made
    elsewhere: by a session that does not use the GPU, or by another library."""
    kind = default_kind()
    if kind == "pageable" or device_address(array) is not None:
        return array
    copy = allocate(array.nbytes, kind).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def placed(array: np.ndarray) -> np.ndarray:
    """The array, which is not written any more, in a block where the query's kernels reach it or of which their device
    keeps a copy: itself, or a copy of another library's or of a small one of numpy's."""
    if block_of(array) is not None and default_kind() in ("pageable", kind_of(array)):
        return array
    copy = allocate(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


# Kinds


def default_kind() -> str:
    """The kind of the current query's arrays (``Account.shared``); outside of queries pageable, so that who never asks
    for the GPU never starts it."""
    account = accounts.current.get()
    return "pageable" if account is None else account.shared


#: What memory is for, and its kind on a machine without a GPU (and in the simulator), on an integrated device, and on a
#: discrete one.
USES = {
    "column": ("pageable", "mapped", "pageable"),  # written by one side, streamed by either
    "result": ("pageable", "mapped", "device"),  # written by kernels, for the CPU
    "counters": ("pageable", "mapped", "mapped"),  # a few words that the CPU reads after a kernel
    "table": ("pageable", "device", "device"),  # at random, by the GPU alone
    "shared table": ("pageable", "managed", "device"),  # at random, by the GPU; then the CPU's as well
    "scratch": ("pageable", "device", "device"),  # between kernels
}


def kind_for(use: str) -> str:
    """The kind of memory for one of USES on this machine. Not managed where the CPU may not touch it while any kernel
    runs, another connection's too: a segmentation fault on Xavier and Orin."""
    from finequery.jetson.device import probe

    info = probe()
    if info is None or info.simulated:
        return USES[use][0]
    if not info.integrated:
        return USES[use][2]
    kind = USES[use][1]
    return "mapped" if kind == "managed" and not info.concurrent_managed_access else kind


# Blocks of slabs

_slabs: dict[str, Slabs] = {}


def slabs(kind: str) -> Slabs:
    """The slabs of a kind that the driver allocates."""
    with _lock:
        if kind not in _slabs:
            from finequery.jetson import driver
            from finequery.jetson.slabs import Slab, Slabs

            found, reason = driver.load()
            if found is None:
                raise NotSupportedError(f"memory kind {kind!r} needs a CUDA device: {reason}")

            def obtain(nbytes: int) -> Slab:
                return Slab(*found.allocate(kind, nbytes), nbytes)

            def release(slab: Slab) -> None:
                found.free(kind, slab.host, slab.device)

            alignment = DEVICE_ALIGNMENT if kind == "device" else ALIGNMENT
            _slabs[kind] = Slabs(obtain, release, alignment=alignment)
        return _slabs[kind]


def _allocate_mapped(nbytes: int, kind: str, counted: bool) -> np.ndarray:
    """A block that host and device both reach."""
    if kind == "device" or kind not in _slabs:
        from finequery.jetson import cuda

        if kind not in KINDS:
            raise ValueError(f"there is no memory kind {kind!r}")
        if cuda.simulated():
            return allocate(nbytes, "pageable", counted=counted)
        slabs(kind)  # says so where there is no device at all
        if kind == "device":
            raise NotSupportedError("device memory has no view for the host: use DeviceBlock")
    account = accounts.current.get() if counted else None
    total = nbytes + PADDING if counted else 0
    accounts.add(total, kind, account)
    try:
        piece = _take(kind, nbytes + PADDING)
    except BaseException:
        accounts.add(-total, kind, account)
        raise
    assert piece.slab.bytes is not None
    block = piece.slab.bytes[piece.start : piece.start + piece.nbytes].view(_Block)
    block.counted, block.kind, block.account, block.piece = total, kind, account, piece
    return block[:nbytes].view(np.ndarray)


def _take(kind: str, nbytes: int) -> Piece:
    try:
        return (_slabs.get(kind) or slabs(kind)).take(nbytes)
    except OperationalError as error:
        from finequery.jetson.driver import DeviceMemoryError

        if not isinstance(error, DeviceMemoryError):
            raise
        raise OutOfMemoryError(
            f"{kind} memory: the driver refused {readable(nbytes)} ({readable(live(kind))} in use)",
            hint="Free memory of other programs, or SET device = 'cpu'.",
        ) from None


class DeviceBlock:
    """Bytes that the device alone reaches, from ``address`` on, aligned and padded; free again with the object."""

    __slots__ = ("__weakref__", "_account", "_piece", "address", "fresh", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self._piece: Piece | None = None
        self._account = accounts.current.get()
        self.nbytes = nbytes
        accounts.add(nbytes, "device", self._account)
        try:
            self._piece = _take("device", nbytes + PADDING)
        except BaseException:
            accounts.add(-nbytes, "device", self._account)
            raise
        self.address, self.fresh = self._piece.device, self._piece.fresh

    def __del__(self) -> None:
        if _lock is not None and self._piece is not None:
            accounts.add(-self.nbytes, "device", self._account)
            self._piece.give()


# Views


def block_of(array: np.ndarray) -> np.ndarray | None:
    """The block that a view is on; None for foreign memory."""
    base: Any = array
    found = None
    while isinstance(base, np.ndarray):
        if isinstance(base, _Block):
            found = base  # a view on a block is one too: the last in the chain is the block itself
        elif found is not None:
            break
        base = base.base
    return found


def kind_of(array: np.ndarray) -> str:
    """The kind of memory an array lies in."""
    block = block_of(array)
    if isinstance(block, _Block):
        return block.kind
    return next((kind for kind, of_kind in _slabs.items() if of_kind.find(array.ctypes.data)), "pageable")


def device_address(array: np.ndarray) -> int | None:
    """The device's address of a host array that it reaches without a copy; None where it does not."""
    host = address(array)
    for of_kind in _slabs.values():  # by address, which also finds Arrow buffers over blocks
        slab = of_kind.find(host)
        if slab is not None:
            return slab.device + host - slab.host
    return None


def arrow(array: np.ndarray) -> pyarrow.Buffer:
    """An Arrow buffer over the array's bytes, which keeps the block alive."""
    import pyarrow

    return pyarrow.py_buffer(array)


__all__ = [
    "ALIGNMENT",
    "DEVICE_ALIGNMENT",
    "KINDS",
    "LARGE",
    "PADDING",
    "USES",
    "Account",
    "DeviceBlock",
    "accounting",
    "address",
    "allocate",
    "array",
    "arrow",
    "block_of",
    "default_kind",
    "device_address",
    "kind_for",
    "kind_of",
    "limit",
    "live",
    "peak",
    "placed",
    "readable",
    "require",
    "reset_peak",
    "set_limit",
    "settled",
    "slabs",
    "steady",
    "trim",
    "unused",
    "used",
    "zeros",
]
