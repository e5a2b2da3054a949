"""A pipeline in two phases: its first steps on one device, the rest and the sink on the other, batch by batch.

Both are pipelines of their own with a program each, compiled once. The first phase ends in columns (``Materialize``)
and is run anew for every batch of the source's morsels. The second reads the batches, which all have the same
encodings, and keeps its sink's state over all of them. Between them lies a ``Channel`` of ``DEPTH`` batches: who is
ahead waits. So at most ``DEPTH + 2`` batches are there at a time, with those that either phase is working on.

The rows of a batch keep the numbers of the morsels that they come from, so what goes by the order of morsels (written
rows, runs of sorted keys) comes out as if there had been one phase. If a device fails, the CPU goes on from the same
batch, beside what the CPU does for the other phase.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.errors import InterruptError
from finequery.operators.branches import Helper, join, stop_of
from finequery.operators.column import BLOCK, Frame
from finequery.operators.context import CPU, GPU, Context, Measured, Placement
from finequery.operators.cuts import handed_on, obstacle
from finequery.operators.materialize import Materialize
from finequery.operators.pipeline import Bound, Pipeline, Split
from finequery.operators.program import MORSEL, ONE_THREAD, TILE, Instance, Job
from finequery.operators.run import Compiled, Sink, skipped_blocks
from finequery.operators.sides import Departed, SideFailed, open_side
from finequery.operators.steps import Step

#: Batches between the phases.
DEPTH = 2
#: Batches that a pipeline's rows are cut into, where the placement does not say.
BATCHES = 16


class Channel:
    """What one thread hands to another, at most ``depth`` at a time: who is ahead waits."""

    def __init__(self, depth: int):
        self.depth = depth
        self.closed = False  # nobody takes any more
        self._items: deque[Any] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._change = threading.Condition()

    def put(self, item: Any) -> bool:
        """Hand on, once there is room; False if nobody takes any more."""
        with self._change:
            self._change.wait_for(lambda: len(self._items) < self.depth or self.closed)
            if not self.closed:
                self._items.append(item)
                self._change.notify_all()
            return not self.closed

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes, for want of more or because of an error, which the taker gets."""
        with self._change:
            self._ended, self._error = True, error
            self._change.notify_all()

    def close(self) -> None:
        """The taker takes no more."""
        with self._change:
            self.closed = True
            self._change.notify_all()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._items or self._ended)
                if self._error is not None:
                    raise self._error
                if not self._items:
                    return
                item = self._items.popleft()
                self._change.notify_all()
            yield item


@dataclass(eq=False)
class _Phase:
    """A program, and the device that runs it until that fails. ``rows``: that come in at the most, or about."""

    context: Context
    compiled: Compiled
    where: Placement
    rows: int
    stopped: Callable[[], bool]
    skip: np.ndarray | None = None
    side: Any = None
    measured: Measured = field(default_factory=Measured)

    def open(self, rows: int) -> None:
        """Get ready for batches of ``rows`` rows; ``Departed`` if the device has no form for the program."""
        self.sink.instance = self.instance
        self.compiled.counters[:] = 0
        self.prepare(rows)
        if self.where.device == "gpu":
            self.side = open_side(self.context, self.compiled, self.rows, self.skip, None, 0)
            if not self.side.many:
                raise Departed("a table of groups that may fill up takes all rows at once")
            self.side.stopped = self.stopped  # where the CPU's threads pose: a kernel is not interrupted

    @property
    def instance(self) -> Instance:
        assert self.compiled.instance is not None
        return self.compiled.instance

    @property
    def sink(self) -> Sink:
        return self.compiled.sink

    def prepare(self, rows: int) -> None:
        """The sink's arrays, for any device's workers: they work one after the other, and share them."""
        workers = self.context.workers(self.where)
        self.sink.prepare(workers, rows)
        self.instance.active = workers

    def run(self, job: Job, segments: np.ndarray, again: Callable[[], None] | None) -> None:
        """Do the morsels of a job. ``again`` undoes what a failed device has done of it; None: that can't be undone."""
        first, end = int(job.words[0]), int(job.words[15])
        self.instance.bind()
        begin = time.perf_counter()
        if self.side is not None:
            counted = self.compiled.counters.copy()
            try:
                self.side.batch(job, first, end, segments)
            except SideFailed as failure:
                if again is None and not failure.untouched:
                    raise Departed(str(failure)) from failure
                self.context.depart(self.measured, str(failure))
                self.side = None
                self.compiled.counters[:] = counted
                segments[first:end] = 0
                if again is not None:
                    again()
                    self.instance.bind()
                begin = time.perf_counter()
            else:
                self.measured.spans.append(("gpu", begin, time.perf_counter()))
                self.measured.ran_on("gpu")
                self.measured.shared += end - first
                return
        self.measured.ran_on("cpu")
        threads = 1 if end - first < 2 or job.words[8] < ONE_THREAD else self.context.pool.threads
        self.measured.threads = max(self.measured.threads, threads)
        self.instance.run(
            *(self.context.pool, job, range(threads)),
            cursor=self.sink.cursor if self.sink.wants_segments else None,
            grow=self.sink.grow,
            stopped=self.stopped,
            profile=self.measured.profiled() if self.context.profile else None,
        )
        self.measured.spans.append(("cpu", begin, time.perf_counter()))

    def end(self, measured: Measured) -> None:
        """Note what it has done."""
        self.compiled.note_passed(self.context)
        measured.join(self.measured)
        measured.shared += self.measured.shared
        measured.threads = max(measured.threads, self.measured.threads)


class _First(_Phase):
    """Writes the rows of each batch of the source's morsels."""

    def batches(self, count: int, size: int) -> Iterator[tuple[int, int, Frame]]:
        """Of so many morsels, ``size`` at a time: the first, the end, and the rows that are left of them."""
        segments = np.zeros((count, 3), dtype=np.int64)
        for first in range(0, count, size):
            end = min(first + size, count)
            rows = min(end * MORSEL, self.rows) - first * MORSEL
            self.prepare(rows)
            job = Job(self.rows, skip=self.skip, segments=segments, first=first, end=end)
            self.run(job, segments, lambda rows=rows: self.prepare(rows))  # type: ignore[misc]
            yield first, end, self.compiled.finish(segments[first:end], rows, self.context.pool, self.measured)


class _Second(_Phase):
    """Takes the batches into the pipeline's sink."""

    def take(self, batches: Channel, count: int, measured: Measured) -> Frame:
        """What all batches give; ``count`` morsels in all."""
        segments, bounds = np.zeros((count, 3), dtype=np.int64), np.zeros(count + 1, dtype=np.int64)
        for first, end, frame in batches:
            if not frame.length:
                continue
            self.compiled.box.frame = frame
            size = -(-frame.length // ((end - first) * TILE)) * TILE
            pieces = -(-frame.length // size)
            bounds[first : first + pieces + 1] = np.minimum(np.arange(pieces + 1) * size, frame.length)
            tile = getattr(self.sink, "tile", None) or TILE
            listed = segments if self.sink.wants_segments else None
            job = Job(frame.length, tile=tile, bounds=bounds, segments=listed, first=first, end=first + pieces)
            self.run(job, segments, None)
        return self.compiled.finish(segments, self.rows, self.context.pool, measured)


def run_phases(
    pipeline: Pipeline, context: Context, frame: Frame, measured: Measured, where: Placement
) -> Frame | None:
    """Rows of ``frame`` through a pipeline in two phases. None: no row comes out, or none is there. ``Departed`` with
    the reason if it can't be cut there or a device can't do its phase; or if one failed and left traces of a batch in
    the sink: all has to be done anew."""
    sink = pipeline.make_sink()
    reason = obstacle(pipeline.steps, getattr(sink, "calls", ()), where.cut, not isinstance(sink, Materialize))
    if context.gpu is None:
        reason = "there is no second device"
    if reason is not None:
        raise Departed(reason)
    if not frame.length:
        return None
    front, back = _parts(pipeline, where.cut, frame)
    places = (CPU, GPU) if where.first == "cpu" else (GPU, CPU)
    one = two = None
    try:
        one = front.program(context, frame, front.steps, measured, places[0])
        if one.instance is None:
            return None
        one.box.frame = frame
        one.sink.prepare(1, 0)
        shape = one.sink.finish(np.zeros((0, 3), dtype=np.int64), 0, context.pool)
        bound = Bound(one.lower.most_rows, one.lower.expected_rows)
        two = back.program(context, shape, back.steps, measured, places[1], bound)
        if two.instance is None:
            return None
        pipeline.compiled = two
        return _overlapped(one, two, context, frame, measured, where, places, pipeline.steps)
    except Split as split:
        raise Departed(str(split)) from None
    finally:
        for compiled in (one, two):
            if compiled is not None:
                compiled.release()


def _parts(pipeline: Pipeline, cut: int, frame: Frame) -> tuple[Pipeline, Pipeline]:
    """The phases as pipelines, kept with the one that they are parts of."""
    if cut not in pipeline.phases:
        columns = handed_on(pipeline.steps, cut, pipeline.sink_reads, frame)

        def sink() -> Sink:
            made = pipeline.make_sink()
            if isinstance(made, Materialize):
                made.appends = True
            return made

        front = Pipeline(
            pipeline.steps[:cut], lambda: Materialize(columns, appends=True, alike=True), {c.id for c in columns}
        )
        pipeline.phases[cut] = front, Pipeline(pipeline.steps[cut:], sink, pipeline.sink_reads)
    return pipeline.phases[cut]


def _overlapped(
    one: Compiled,
    two: Compiled,
    context: Context,
    frame: Frame,
    measured: Measured,
    where: Placement,
    places: tuple[Placement, Placement],
    steps: list[Step],
) -> Frame:
    """Run both programs at the same time; the second in the calling thread."""
    count = -(-frame.length // MORSEL)
    size = max(where.batch // MORSEL, 1) if where.batch else max(count // BATCHES, 1)
    skip = skipped_blocks(frame, steps, context, count) if frame.length > BLOCK else None
    skipped = 0 if skip is None else int(skip.sum())
    channel = Channel(DEPTH)
    first = _First(context, one, places[0], frame.length, lambda: channel.closed or context.halted(), skip)
    second = _Second(context, two, places[1], frame.length, context.halted)

    first.open(min(size * MORSEL, frame.length))
    second.open(frame.length)
    through = np.zeros(16, dtype=np.int64)
    through[15] = count
    measured.jobs.append((through, 0))

    def produce() -> None:
        error: BaseException | None = None
        try:
            for batch in first.batches(count, size):
                if not channel.put(batch):
                    break
                through[0] = batch[1]
        except BaseException as found:  # it is raised again in the thread that asked
            error = found
        channel.end(error)

    helper = Helper(produce)
    try:
        helper.start()
        result = second.take(channel, count, measured)
    except KeyboardInterrupt as error:
        raise stop_of(error) from None
    finally:
        channel.close()
        interrupts = join(context, [helper])
    if interrupts:
        raise InterruptError("the query was stopped")
    first.end(measured)
    second.end(measured)
    measured.morsels += count
    measured.skipped += skipped
    measured.bytes += one.read_bytes(frame) * (count - skipped) // count
    return result
