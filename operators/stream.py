"""Rows that don't fit into memory: in frames, one after another, of which the next is read while one is worked on.

A task whose rows come out of a scan that does not fit gives them as a ``Stream``. Who takes them keeps what it makes of
a frame (groups, the first rows of an order) and lets go of the frame, or puts all rows together if it needs them at
once (``collect``), which is refused if they pass memory_limit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from finequery.errors import InterruptError, OutOfMemoryError
from finequery.jetson import accounts
from finequery.operators.branches import Helper, join
from finequery.operators.column import ColumnData, Frame
from finequery.operators.concat import concat_columns, empty_column
from finequery.operators.context import Context, Measured, Streamed
from finequery.operators.expr import Column
from finequery.operators.table import Batches
from finequery.operators.take import slice_column

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Stream:
    """Rows in frames: at least one frame, and at most ``rows`` rows in all (where a part's are not known, about)."""

    rows: int
    frames: Iterator[Frame]


def scanned(
    batches: Batches, columns: Sequence[Column], names: Sequence[str], context: Context, record: Measured
) -> Iterator[Frame]:
    """The frames of a scan. ``record`` says what was read, and how long others waited for it."""
    limit = accounts.limit()
    room = 0 if limit is None else limit - accounts.live()
    parts = batches.cut(room)
    done = record.streamed = Streamed(len(parts), batches.skipped, batches.skipped + len(batches.groups))

    def read(part: Any) -> Frame:
        data = dict(zip(dict.fromkeys(names), batches.read(part)))
        found = {c.id: data[name] for c, name in zip(columns, names)}
        return Frame(found, next(iter(found.values())).length)

    if not parts:
        yield Frame({c.id: empty_column(c.type) for c in columns}, 0)
        return
    beside = context.pool.threads > 1 and 3 * batches.largest <= room
    begin = time.perf_counter()
    for frame in ahead(context, parts, read) if beside else map(read, parts):
        nbytes = sum(column.nbytes for column in frame.columns.values())
        done.note(nbytes)
        record.rows_out += frame.length
        record.seconds += time.perf_counter() - begin
        if context.halted():
            raise InterruptError("the query was stopped")
        yield frame
        del frame  # before the next is waited for
        begin = time.perf_counter()


class _Coming(Generic[_Result]):
    """A result that a thread of its own is at work for."""

    def __init__(self, make: Callable[[], _Result]):
        self._make = make
        self._result: list[_Result] = []
        self._error: BaseException | None = None
        self.helper = Helper(self._work)
        self.helper.start()

    def _work(self) -> None:
        try:
            self._result.append(self._make())
        except BaseException as error:  # it is raised again in the thread that asked
            self._error = error

    def take(self, context: Context) -> _Result:
        """The result, when it is there."""
        if join(context, [self.helper]):
            raise InterruptError("the query was stopped")
        if self._error is not None:
            raise self._error
        return self._result.pop()


def ahead(context: Context, items: Sequence[_Item], make: Callable[[_Item], _Result]) -> Iterator[_Result]:
    """What ``make`` gives for each item, in order; the next one is made while the caller works on the one before."""
    coming: _Coming[_Result] | None = None
    try:
        for place, item in enumerate(items):
            result = make(item) if coming is None else coming.take(context)
            coming = None
            if place + 1 < len(items):
                coming = _Coming(lambda item=items[place + 1]: make(item))  # type: ignore[misc]
            yield result
            del result
    finally:
        if coming is not None:
            join(context, [coming.helper])


def owned(frame: Frame, columns: Sequence[Column]) -> Frame:
    """A copy of just these columns, counted, so that what the frame's arrays are part of can go."""
    return Frame({c.id: slice_column(frame.columns[c.id], 0, frame.length) for c in columns}, frame.length)


def joined(frames: list[Frame], columns: Sequence[Column]) -> Frame:
    """Frames one after another. The list is emptied: their memory goes column by column."""
    rows = sum(frame.length for frame in frames)
    pieces = {c.id: [frame.columns[c.id] for frame in frames if frame.length] for c in columns}
    frames.clear()
    made: dict[int, ColumnData] = {}
    for column in columns:
        found = pieces.pop(column.id)
        made[column.id] = concat_columns(found, statistics=False) if found else empty_column(column.type)
    return Frame(made, rows)


def upto(frames: Iterator[Frame], limit: int | None, offset: int) -> Iterator[Frame]:
    """Frames until ``offset`` and ``limit`` rows have come (None: all)."""
    passed = 0
    for frame in frames:
        passed += frame.length
        yield frame
        if limit is not None and passed >= offset + limit:
            return


def collect(stream: Stream, columns: Sequence[Column]) -> Frame:
    """All rows of a stream at once."""
    kept: list[Frame] = []
    frame: Frame | None = next(stream.frames)
    with refused():
        while frame is not None:
            if frame.length:
                kept.append(owned(frame, columns))
            frame = None  # before the next is made
            frame = next(stream.frames, None)
        return joined(kept, columns)


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Where memory for rows that are needed at once is refused, the error says so."""
    try:
        yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{error.message}, for rows that are needed all at once: by an order of all rows, a window function, a "
            "join's right side, or as the result",
            hint="Raise it with SET memory_limit = '…'; filter, aggregate or LIMIT the rows first; or write the result "
            "to a file with COPY … TO.",
        ) from None
