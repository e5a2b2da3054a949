"""What runs for a user: where it is told to stop, and where it says how far it is.

A ``Watch`` belongs to one statement, or one conversion of its answer. It is found through a context variable, as the
account of memory is, so that kernels' loops, readers and conversions need not be handed it. Long work comes back here
every ``TURN`` seconds or so: ``check`` raises when the user wants it to end. Nobody is told how far work is; work keeps
counters that it has anyway where somebody may look (``Measured.jobs``, ``Watch.stage``).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from finequery.errors import InterruptError

_Item = TypeVar("_Item")

#: Seconds after which native code comes back to see whether it is to stop; with what then runs to its end (a morsel, a
#: tile), and with what notices it, a stop takes a tenth of a second at the most.
TURN = 0.02
#: Rows that a conversion handles between two checks.
PIECE = 1 << 20


class Stage:
    """Work that is no pipeline: reading files, converting, writing. ``done`` of ``total`` units, or a function that
    gives what is done."""

    __slots__ = ("count", "done", "label", "total")

    def __init__(self, label: str, total: float, count: Callable[[], float] | None = None):
        self.label, self.total, self.count = label, max(total, 1), count
        self.done = 0.0

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(max((self.done if self.count is None else self.count()) / self.total, 0.0), 1.0)


class Watch:
    """One statement that runs. ``deadline``: by ``time.monotonic``, or None."""

    __slots__ = (
        "asked",
        "begin",
        "context",
        "deadline",
        "drawn",
        "look",
        "owner",
        "plan",
        "published",
        "stage",
        "text",
    )

    def __init__(self, text: str = "", seconds: float | None = None, owner: Any = None):
        self.text, self.owner = text, owner
        self.begin = time.monotonic()
        self.deadline = None if seconds is None else self.begin + seconds
        self.asked = False  # to stop, by the user
        self.plan: Any = None  # what runs now, and its context
        self.context: Any = None
        self.stage: Stage | None = None
        self.look: Any = None  # what who looks keeps from one look to the next
        self.drawn = self.published = False  # a bar of it is on the screen; it is in the process's file

    def stop(self) -> None:
        """From any thread: let it end."""
        self.asked = True

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def stopped(self) -> bool:
        """Whether it is to end."""
        return self.asked or self.late

    def check(self) -> None:
        """Raise InterruptError if it is to end."""
        if self.asked or self.late:
            raise interrupted()


current: ContextVar[Watch | None] = ContextVar("watch", default=None)


def interrupted() -> InterruptError:
    """What a query that was told to stop raises."""
    return InterruptError("the query was stopped")


def check() -> None:
    """Raise InterruptError if what runs here is to end."""
    watch = current.get()
    if watch is not None:
        watch.check()


def staged(label: str, items: Iterable[_Item], total: int) -> Iterator[_Item]:
    """The items one by one, with a check before each; how many were through is the stage of what runs here."""
    watch = current.get()
    if watch is None:
        yield from items
        return
    before, watch.stage = watch.stage, Stage(label, total)
    stage = watch.stage
    try:
        for item in items:
            watch.check()
            yield item
            stage.done += 1
    finally:
        watch.stage = before


class stage:
    """``with stage("reading t", 12, count):`` names what runs here."""

    def __init__(self, label: str, total: float, count: Callable[[], float] | None = None):
        self._stage = Stage(label, total, count)

    def __enter__(self) -> Stage:
        self._watch = current.get()
        if self._watch is not None:
            self._before, self._watch.stage = self._watch.stage, self._stage
        return self._stage

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.stage = self._before


def counting(total: float, count: Callable[[], float] | None = None) -> Stage | None:
    """Give the stage of what runs here, if it has one, its total, and what counts it."""
    watch = current.get()
    found = None if watch is None else watch.stage
    if found is not None:
        found.total, found.done, found.count = max(total, 1), 0.0, count
    return found


def pieces(rows: int, size: int = PIECE) -> Iterator[tuple[int, int]]:
    """Begin and end of stretches of rows, with a check before each."""
    for first, end in itertools.pairwise([*range(0, rows, size), rows]):
        check()
        yield first, end


class Budget:
    """How much native code does before it comes back: so much that it takes ``TURN`` seconds. ``size`` is in the
    caller's units: morsels, or passes over a tile."""

    __slots__ = ("_begin", "most", "size")

    def __init__(self, size: int, most: int):
        self.size, self.most = size, most
        self._begin = time.perf_counter()

    def begin(self) -> None:
        """A round begins."""
        self._begin = time.perf_counter()

    def adapt(self) -> int:
        """A round has ended: the size of the next one."""
        took = time.perf_counter() - self._begin
        factor = TURN / max(took, TURN / 4)
        self.size = max(1, min(int(self.size * factor), self.most))
        return self.size
