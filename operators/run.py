"""Runs a pipeline's program over its rows: on the CPU, on the second device, or on both at once.

Both devices work on one program. Every thread of the CPU is a *worker* with accumulators and output arrays of its own,
which the sink puts together at the end; the second device is one more (operators/sides.py). Where both work, the rows
are cut in two by the share that was planned: the CPU's threads take morsels from the front part, the device takes
batches of morsels from the back part, and who is through with his own part goes on in the other's. So a share that was
wrong by something costs a batch, not the difference. If the device fails, its worker's results are thrown away and the
CPU does those morsels.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from finequery.errors import InterruptError
from finequery.operators import watch
from finequery.operators.branches import Helper, join
from finequery.operators.column import BLOCK, Frame
from finequery.operators.context import Context, Measured, Placement
from finequery.operators.expr import Call, Column, Literal, Parameter, conjuncts
from finequery.operators.filter import stored_range
from finequery.operators.lower import Lower, Stored
from finequery.operators.pool import Pool
from finequery.operators.profile import SINK
from finequery.operators.program import MORSEL, ONE_THREAD, TILE, Instance, Job
from finequery.operators.sides import Departed, SideFailed, open_side
from finequery.operators.steps import Filter, Step

#: Batches in which the second device takes its share of a pipeline's rows.
BATCHES = 8
EMPTY = Frame({}, 0)


class Sink(Protocol):
    """The end of a pipeline. What is said of workers holds for threads of the CPU and for the second device."""

    instance: Instance | None

    def lower_into(self, lower: Lower) -> None: ...
    def empty(self) -> Frame: ...
    def prepare(self, workers: int, rows: int) -> None: ...
    def discard(self, worker: int) -> None: ...  # what the worker has done so far
    def grow(self, worker: int) -> None: ...
    def cursor(self, worker: int) -> int: ...
    @property
    def wants_segments(self) -> bool: ...
    @property
    def entries(self) -> int: ...  # rows, or groups of all workers, that ``finish`` goes over
    def finish(self, segments: np.ndarray, rows: int, pool: Pool) -> Frame: ...
    def release(self) -> None: ...


class Box:
    """The frame that a program reads; other ones in later runs."""

    def __init__(self, frame: Frame):
        self.frame = frame


@dataclass(eq=False)
class Compiled:
    """A pipeline's program over certain encodings, with its sink."""

    signature: Any
    instance: Instance | None  # None: no row can come out
    sink: Sink
    stored: dict[int, Stored]
    lower: Lower  # keeps alive what the program's addresses lead to
    box: Box
    counted: list[int]  # ids of the steps whose rows are counted
    counters: np.ndarray  # rows that came out of each, by worker and step
    kernel: Any = None  # of the GPU, or the reason why there is none

    def read_bytes(self, frame: Frame) -> int:
        """Bytes of the columns of ``frame`` that the program reads."""
        if self.instance is None:
            return 0
        used = {id(symbol) for symbol in self.instance.symbols}
        total = 0
        for number, stored in self.stored.items():
            for part, symbol in stored.symbols.items():
                data = getattr(frame.columns[number], part) if id(symbol) in used else None
                total += 0 if data is None else data.nbytes
        return total

    def run(
        self,
        context: Context,
        frame: Frame,
        steps: list[Step],
        measured: Measured,
        where: Placement,
        bounds: np.ndarray | None = None,
    ) -> Frame:
        """Rows of ``frame`` through the program. ``bounds``: morsels other than equal ones."""
        self.box.frame = frame
        sink, instance, rows, pool = self.sink, self.instance, frame.length, context.pool
        if instance is None:
            return sink.empty()
        sink.instance = instance
        segments = np.zeros((0, 3), dtype=np.int64)
        if not rows or not instance.names:  # without instructions columns are only handed on
            sink.prepare(pool.threads, rows)
        else:
            count = -(-rows // MORSEL) if bounds is None else len(bounds) - 1
            skip = skipped_blocks(frame, steps, context, count) if rows > BLOCK and bounds is None else None
            skipped = 0 if skip is None else int(skip.sum())
            run = _Run(self, context, rows, count, skip, bounds, measured)
            segments = run.on(where)
            self.note_passed(context)
            measured.morsels += count
            measured.skipped += skipped
            measured.bytes += self.read_bytes(frame) * (count - skipped) // count
        result = self.finish(segments, rows, pool, measured)
        self.release()
        return result

    def note_passed(self, context: Context) -> None:
        """Note the rows that have come out of the steps."""
        for place, step in enumerate(self.counted):
            context.passed_rows(step, int(self.counters[:, place].sum()))

    def finish(self, segments: np.ndarray, rows: int, pool: Pool, measured: Measured) -> Frame:
        """What the sink makes of all that the workers have done."""
        begin = time.perf_counter()
        result = watch.aside(self.sink.entries, self.sink.finish, segments, rows, pool)
        if measured.profile is not None:
            measured.profile.add(SINK, time.perf_counter() - begin)
        return result

    def release(self) -> None:
        """A run is over: the program stays with the plan, and must not keep the run's data alive."""
        if self.instance is None:
            return
        self.instance.unbind()
        self.sink.release()
        self.box.frame = EMPTY


@dataclass(eq=False)
class _Run:
    """One run of one program."""

    compiled: Compiled
    context: Context
    rows: int
    count: int  # morsels
    skip: np.ndarray | None
    bounds: np.ndarray | None
    measured: Measured

    def on(self, where: Placement) -> np.ndarray:
        """Run it where it is placed; the segments of the morsels."""
        context, measured = self.context, self.measured
        self.segments = np.zeros((self.count, 3), dtype=np.int64)
        self.compiled.counters[:] = 0
        sink, rows, threads = self.compiled.sink, self.rows, context.pool.threads
        alone = where.device == "gpu"
        if alone or where.device == "both":
            first = 0 if alone else threads
            try:
                self._prepare(first + context.gpu_workers)
                side = open_side(context, self.compiled, rows, self.skip, self.bounds, first)
                if alone:
                    begin = time.perf_counter()
                    side.batch(self._job(), 0, self.count, self.segments)
                    measured.spans.append(("gpu", begin, time.perf_counter()))
                    measured.ran_on("gpu")
                    measured.shared += self.count
                else:
                    self._together(side, where)
                return self.segments
            except (Departed, SideFailed) as reason:
                context.depart(measured, str(reason))
                sink.release()
                self.compiled.counters[:] = 0
                self.segments[:] = 0
        measured.ran_on("cpu")
        self._prepare(threads)
        self._on_cpu(self._job())
        return self.segments

    def _prepare(self, workers: int) -> None:
        begin = time.perf_counter()
        self.compiled.sink.prepare(workers, self.rows)
        if self.context.profile:
            self.measured.profiled().add(SINK, time.perf_counter() - begin)
        self.instance.active = workers
        self.instance.bind()

    @property
    def instance(self) -> Instance:
        assert self.compiled.instance is not None
        return self.compiled.instance

    def _job(self, first: int = 0, end: int | None = None, skip: np.ndarray | None = None) -> Job:
        sink = self.compiled.sink
        tile = getattr(sink, "tile", None) or TILE
        segments = self.segments if sink.wants_segments else None
        skip = self.skip if skip is None else skip
        job = Job(self.rows, tile=tile, bounds=self.bounds, skip=skip, segments=segments, first=first, end=end)
        self.measured.jobs.append((job.words, first))
        return job

    def _on_cpu(self, job: Job) -> None:
        context, sink = self.context, self.compiled.sink
        small = self.rows < ONE_THREAD and self.bounds is None
        threads = 1 if small or self.count == 1 else context.pool.threads
        self.measured.threads = max(self.measured.threads, threads)
        cursor = sink.cursor if sink.wants_segments else None
        profile, begin = self.measured.profiled() if context.profile else None, time.perf_counter()
        self.instance.run(
            *(context.pool, job, range(threads)),
            cursor=cursor,
            grow=sink.grow,
            stopped=context.halted,
            profile=profile,
        )
        self.measured.spans.append(("cpu", begin, time.perf_counter()))

    def _together(self, side: Any, where: Placement) -> None:
        """The front part on the CPU, the back part on the device; each helps the other in the end."""
        border = self.count - min(max(round(where.share * self.count), 0), self.count)
        front, back = self._job(0, border), self._job(border)
        size = max(where.batch // MORSEL, 1) if where.batch else max((self.count - border) // BATCHES, 1)
        done: list[tuple[int, int]] = []
        errors: list[BaseException] = []

        def drive() -> None:
            begin = time.perf_counter()
            try:
                for job in (back, front) if side.many else (back,):
                    while (taken := job.take(size if side.many else self.count)) is not None:
                        done.append(taken)
                        side.batch(job, *taken, self.segments)
            except BaseException as error:  # it is raised again in the thread that asked
                errors.append(error)
                if not isinstance(error, SideFailed):
                    front.stop()
                    back.stop()
            self.measured.spans.append(("gpu", begin, time.perf_counter()))

        helper = Helper(drive)
        try:
            helper.start()
            self._on_cpu(front)
            self._on_cpu(back)
        finally:
            front.stop()
            back.stop()
            interrupts = join(self.context, [helper])
        if interrupts:
            raise InterruptError("the query was stopped")
        lost = sum(end - first for first, end in done)
        if errors and not isinstance(errors[0], SideFailed):
            raise errors[0]
        if errors:
            self.context.depart(self.measured, str(errors[0]))
            for worker in side.workers:
                self.compiled.sink.discard(worker)
                self.compiled.counters[worker] = 0
            skip = np.ones(self.count, dtype=np.uint8)
            for first, end in done:
                self.segments[first:end] = 0
                skip[first:end] = 0 if self.skip is None else self.skip[first:end]
            self._on_cpu(self._job(skip=skip))
            lost = 0
        self.measured.shared += lost
        if lost:
            self.measured.ran_on("gpu")
        if lost < self.count:
            self.measured.ran_on("cpu")


def filter_tests(steps: Sequence[Step], context: Context, ids: Container[int]) -> Iterator[tuple[int, str, int]]:
    """The first filter's comparisons of these columns with exact values: column, comparison, physical value."""
    if not steps or not isinstance(steps[0], Filter):
        return
    for term in conjuncts(steps[0].predicate):
        if not isinstance(term, Call) or term.name not in ("eq", "lt", "le", "gt", "ge"):
            continue
        left, right = term.args
        if isinstance(left, Column) and left.id in ids and isinstance(right, (Literal, Parameter)):
            value = context.constant(right)
            if isinstance(value, int):
                yield left.id, term.name, value


def skipped_blocks(frame: Frame, steps: list[Step], context: Context, count: int) -> np.ndarray | None:
    """A byte per block: 1 where the first filter's range tests show from block statistics that no row can pass."""
    skip: np.ndarray | None = None
    for column, comparison, value in filter_tests(steps, context, frame.columns):
        data = frame.columns[column]
        low, high = data.stats.block_low, data.stats.block_high
        if low is None or high is None or data.kind not in ("uint", "int64") or len(low) != count:
            continue
        least, most = stored_range(data, comparison, value)
        out = (high < least) | (low > most)
        skip = out if skip is None else skip | out
    if skip is None or not skip.any():
        return None
    return np.ascontiguousarray(skip.astype(np.uint8))
