"""How much memory is in use and how many bytes move between host and device: in all, by kind, and by query."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from finequery.errors import OutOfMemoryError

KINDS = ("pageable", "mapped", "managed", "device")


@dataclass
class Moved:
    """Bytes copied between the host's memory and the device's, and in how many copies."""

    to_device: int = 0
    to_host: int = 0
    transfers: int = 0

    @property
    def total(self) -> int:
        """Bytes in both directions."""
        return self.to_device + self.to_host


@dataclass(eq=False)
class Account:
    """What one query holds and moves: bytes in use by kind, the most there were, and copies."""

    #: The kind of host arrays that its kernels read and write: pageable unless it may use a GPU that shares the memory.
    shared: str = "pageable"
    live: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    peak: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    moved: Moved = field(default_factory=Moved)


def count(direction: str, nbytes: int, moved: Moved | None = None) -> None:
    """Count a copy of so many bytes, ``to_device`` or ``to_host``, in the current query's account and in ``moved``."""
    account = current.get()
    for one in (moved, None if account is None else account.moved):
        if one is not None:
            setattr(one, direction, getattr(one, direction) + nbytes)
            one.transfers += 1


_lock = threading.RLock()  # re-entrant: a block may be freed by the garbage collector while the lock is held
_live = dict.fromkeys(KINDS, 0)
_main = 0  # of it in main memory
_peak = 0
_limit: int | None = None
#: Kinds that take from main memory. Device memory does so on integrated devices (``unify``).
_in_main = {"pageable": True, "mapped": True, "managed": True, "device": False}

current: ContextVar[Account | None] = ContextVar("account", default=None)


@contextlib.contextmanager
def accounting(account: Account) -> Iterator[Account]:
    """Blocks allocated and bytes moved in this context (and in pool threads that work for it) are the account's."""
    token = current.set(account)
    try:
        yield account
    finally:
        current.reset(token)


def unify() -> None:
    """Device memory is main memory here: the memory_limit covers it."""
    global _main
    with _lock:
        if not _in_main["device"]:
            _in_main["device"] = True
            _main += _live["device"]


def add(nbytes: int, kind: str, account: Account | None) -> None:
    """Count a block before it is made (refused beyond the limit), or with a negative number when it has ended."""
    global _main, _peak
    with _lock:
        if _in_main[kind]:
            if nbytes > 0 and _passes(nbytes):
                raise _refusal(f"{readable(nbytes)} more", "or drop tables that are no longer needed.")
            _main += nbytes
            if _main > _peak:
                _peak = _main
        _live[kind] += nbytes
        if account is not None:
            used = account.live[kind] + nbytes
            account.live[kind] = used
            if used > account.peak[kind]:
                account.peak[kind] = used


def require(nbytes: int, what: str) -> None:
    """Refuse a temporary of ``nbytes`` that would pass the limit together with what is alive. Not counted itself."""
    if _passes(nbytes):
        raise _refusal(f"{what} of {readable(nbytes)}", "or let the query touch fewer rows or columns.")


def _passes(nbytes: int) -> bool:
    """Whether so many bytes more pass the limit, also when the garbage is gone: a query that was refused leaves all
    that it held in the circle of an error and its frames."""
    if _limit is None or _main + nbytes <= _limit:
        return False
    gc.collect()
    return _main + nbytes > _limit


def _refusal(what: str, remedy: str) -> OutOfMemoryError:
    assert _limit is not None
    return OutOfMemoryError(
        f"host memory: {what} would pass the memory_limit of {readable(_limit)} ({readable(_main)} in use)",
        hint=f"Raise it with SET memory_limit = '…', {remedy}",
    )


def live(kind: str | None = None) -> int:
    """Bytes in use: in main memory, or of one kind."""
    return _main if kind is None else _live[kind]


def peak() -> int:
    """Most bytes of main memory ever in use since the start or ``reset_peak``."""
    return _peak


def reset_peak() -> None:
    """Start a new peak from what is in use now."""
    global _peak
    with _lock:
        _peak = _main


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
