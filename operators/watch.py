"""What runs for a user: where it is told to stop, and where it says how far it is.

A ``Watch`` belongs to one statement, or one conversion of its answer. It is found through a context variable, as the
account of memory is, so that kernels' loops, readers and conversions need not be handed it. Long work comes back here
every ``TURN`` seconds or so: ``check`` raises when the user wants it to end. What does not come back (a library's call
over whole arrays, a kernel that is one call) runs ``aside``, and its caller waits here. Nobody is told how far work is;
work keeps counters that it has anyway where somebody may look (``Measured.jobs``, ``Watch.stage``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from finequery.errors import InterruptError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Seconds after which native code comes back to see whether it is to stop; with what then runs to its end (a morsel, a
#: tile), and with what notices it, a stop takes a tenth of a second at the most.
TURN = 0.02
#: Seconds that what runs aside has to end once it is to.
GRACE = 0.03
#: Rows that a conversion handles between two checks; fewer are not worth a thread aside.
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
        *("abandoned", "asked", "begin", "context", "deadline", "drawn", "ended", "look"),
        *("owner", "plan", "published", "stage", "text"),
    )

    def __init__(self, text: str = "", seconds: float | None = None, owner: Any = None):
        self.text, self.owner = text, owner
        self.begin = time.monotonic()
        self.deadline = None if seconds is None else self.begin + seconds
        self.asked = False  # to stop, by the user
        self.ended = False  # nobody waits for it any more
        self.abandoned = False  # something aside has not ended: what it works on is not to be used again
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
        return self.asked or self.ended or self.late

    def check(self) -> None:
        """Raise InterruptError if it is to end."""
        if self.asked or self.ended or self.late:
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


def check_asked() -> None:
    """Raise InterruptError if the user wants what runs here to end. Its timeout passes: this is for what is done once,
    and would never be done if it were ended each time."""
    watch = current.get()
    if watch is not None and watch.asked:
        raise interrupted()


def pieces(rows: int, size: int = PIECE) -> Iterator[tuple[int, int]]:
    """Begin and end of stretches of rows, with a check before each."""
    for first in range(0, rows, size):
        check()
        yield first, min(first + size, rows)


def aside(rows: int, function: Callable[..., _Result], *arguments: Any) -> _Result:
    """``function(*arguments)``. Over many ``rows`` it runs in a thread of its own, while this one waits and notices a
    stop. Then it has ``GRACE`` seconds to notice, too; else it is left to end by itself, and its answer is nobody's. It
    must not need a lock that its caller holds."""
    watch = current.get()
    if watch is None or rows < PIECE or getattr(_here, "aside", False):
        return function(*arguments)
    results: list[_Result] = []
    errors: list[BaseException] = []
    done = threading.Lock()  # not an Event: one that Ctrl-C comes upon in its ``wait`` is broken
    done.acquire()

    def run() -> None:
        _here.aside = True
        try:
            results.append(function(*arguments))
        except BaseException as error:  # it is raised again in the thread that asked
            errors.append(error)
        finally:
            done.release()

    watch.check()
    try:
        threading.Thread(target=copy_context().run, args=(run,), name="finequery-aside", daemon=True).start()
        while not done.acquire(timeout=TURN):
            watch.check()
    except BaseException:
        watch.ended = True
        watch.abandoned |= not (results or errors or done.acquire(timeout=GRACE))
        raise
    if errors:
        raise errors[0]
    return results[0]


_here = threading.local()


# --- how far work is that is no pipeline -----------------------------------------------------------------------------


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


def staged(label: str, items: Iterable[_Item], total: int) -> Iterator[_Item]:
    """The items one by one, with a check before each; how many were through is the stage of what runs here."""
    with stage(label, total) as now:
        for item in items:
            check()
            yield item
            now.done += 1


def counting(total: float, count: Callable[[], float] | None = None) -> Stage | None:
    """Give the stage of what runs here, if it has one, its total, and what counts it."""
    watch = current.get()
    found = None if watch is None else watch.stage
    if found is not None:
        found.total, found.done, found.count = max(total, 1), 0.0, count
    return found


class Budget:
    """How much is done before it comes back: so much that it takes ``TURN`` seconds. ``size`` is in the caller's units:
    morsels, passes over a tile, rows."""

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
