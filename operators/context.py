"""One execution of a plan: what it works with, where its parts run, and the record of what happened."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from finequery.errors import NotSupportedError
from finequery.jetson import memory
from finequery.operators import watch
from finequery.operators.expr import Expr
from finequery.operators.pool import Pool
from finequery.operators.profile import Profile
from finequery.operators.program import too_many_rows

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a pipeline runs.

    ``device``: "cpu", "gpu", "both" (its rows are shared out), or "phases" (batches go through its first steps on one
    device and through the rest on the other). ``share``: of the rows, what the GPU takes. ``cut``: steps of the first
    phase; ``first``: its device. ``batch``: rows that are handed on at a time (0: as the executor likes). ``along``:
    it may run beside the pipelines before it that it does not read.
    """

    device: str = "cpu"
    share: float = 0.0
    cut: int = 0
    first: str = "cpu"
    batch: int = 0
    along: bool = False


CPU, GPU = Placement(), Placement("gpu", 1.0)
#: ``Measured.device`` where both devices did something.
BOTH = "cpu and gpu"


@dataclass(eq=False)
class Streamed:
    """What a scan that did not fit has read: batches, row groups ``skipped`` of how many, bytes of the columns, and
    those of the largest batch."""

    batches: int
    skipped: int
    groups: int
    nbytes: int = 0
    largest: int = 0
    read: int = 0  # batches so far

    def note(self, nbytes: int) -> None:
        """A batch was read."""
        self.read += 1
        self.nbytes += nbytes
        self.largest = max(self.largest, nbytes)


@dataclass(eq=False)
class Measured:
    """What one run of a pipeline took. ``bytes``: the source's columns that its program reads, less skipped blocks."""

    rows_in: int = 0
    rows_out: int = 0
    seconds: float = 0.0
    bytes: int = 0
    skipped: int = 0
    morsels: int = 0
    threads: int = 1
    compiled: bool = False  # the program was made in this run, in ``compile_seconds`` of the ``seconds``
    compile_seconds: float = 0.0
    device: str = ""  # where its programs ran: "cpu", "gpu" or both; none did: ""
    shared: int = 0  # morsels that the GPU took, where both devices worked on one pipeline
    profile: Profile | None = None  # of its programs on the CPU, by step, where the setting asks for it
    spans: list[tuple[str, float, float]] = field(default_factory=list)  # device, begin and end by perf_counter
    departed: list[str] = field(default_factory=list)  # why a program did not run on the device that was asked for
    #: Words of its programs' jobs, which count the morsels taken, each with its first morsel: for who looks how far.
    jobs: list[tuple[np.ndarray, int]] = field(default_factory=list)
    begin: float = field(default_factory=time.perf_counter)  # when it was begun to be measured
    streamed: Streamed | None = None  # of a scan that did not fit

    def profiled(self) -> Profile:
        """The profile of this run, to be added to."""
        if self.profile is None:
            self.profile = Profile()
        return self.profile

    def ran_on(self, device: str) -> None:
        """Note where a program ran."""
        self.device = device if self.device in ("", device) else BOTH

    def join(self, part: Measured) -> None:
        """Take over where a part of the work ran."""
        if part.device:
            self.ran_on(part.device)
        self.spans += part.spans
        for reason in part.departed:
            self.depart(reason)
        if part.profile is not None:
            self.profiled().merge(part.profile)

    def add(self, part: Measured) -> None:
        """Add what a part of the rows took; ``rows_out`` is the whole's to say."""
        self.join(part)
        self.rows_in += part.rows_in
        self.seconds += part.seconds
        self.bytes += part.bytes
        self.skipped += part.skipped
        self.morsels += part.morsels
        self.shared += part.shared
        self.threads = max(self.threads, part.threads)
        self.compiled |= part.compiled
        self.compile_seconds += part.compile_seconds

    def depart(self, reason: str) -> None:
        """Note why a program did not run on the device that was asked for."""
        if reason not in self.departed:
            self.departed.append(reason)


class Scheduler(Protocol):
    """Who decides where the parts of a plan run."""

    def where(self, item: Any, context: Context) -> Placement: ...


@dataclass(eq=False)
class Context:
    """One execution: threads, parameters, results of shared subplans, and the record of what happened."""

    pool: Pool
    parameters: dict[int | str, Any] = field(default_factory=dict)
    results: dict[int, Any] = field(default_factory=dict)
    measured: dict[int, Measured] = field(default_factory=dict)  # by id of the task (a Probe: what its build took)
    passed: dict[int, int] = field(default_factory=dict)  # by id of the Filter or Probe: rows that came out of it
    stopped: Callable[[], bool] | None = None
    gpu: Any = None  # the second device (jetson.gpu.Device, or operators.sides.Posing), if there is one
    placement: Placement = CPU  # of what ``placements`` has no entry for
    placements: Mapping[int, Placement] = field(default_factory=dict)  # by id of the task or Probe
    scheduler: Scheduler | None = None  # says where, if there is one
    strict: bool = False  # a departure from that is an error
    profile: bool = False  # measure every instruction on the CPU
    account: memory.Account = field(default_factory=memory.Account)  # memory held and bytes moved, by kind
    lock: Any = field(default_factory=threading.Lock)  # of ``passed`` and ``locks``: branches of a plan run at once
    locks: dict[int, Any] = field(default_factory=dict)  # one for each of ``results``, held while that is computed
    hosted: Any = None  # the last function of the host: its expression, columns and result (evaluate.host_column)
    _ended: threading.Event = field(default_factory=threading.Event)
    _mine: threading.local = field(default_factory=threading.local)

    def where(self, item: Any) -> Placement:
        """Where a task, or the build of a Probe, is to run."""
        if self.scheduler is not None:
            return self.scheduler.where(item, self)
        return self.placements.get(id(item), self.placement)

    @property
    def gpu_workers(self) -> int:
        """Workers of a program that the second device brings."""
        return getattr(self.gpu, "threads", 1)

    def workers(self, where: Placement) -> int:
        """Workers of a program that is placed so: the pool's threads, and what the second device brings."""
        threads, others = self.pool.threads, self.gpu_workers
        return {"cpu": threads, "gpu": max(threads, others)}.get(where.device, threads + others)

    @property
    def scalar_seconds(self) -> float:
        """What this thread has spent on scalar subqueries, which run inside of what first needs them."""
        return getattr(self._mine, "scalar_seconds", 0.0)

    def end(self) -> None:
        """A part of the execution has failed: all others are to stop."""
        self._ended.set()

    def halted(self) -> bool:
        """Whether what runs is to stop: somebody interrupted the query, or a part of it has failed."""
        return self._ended.is_set() or (self.stopped is not None and self.stopped())

    def once(self, key: int, compute: Callable[[], Any]) -> Any:
        """A result that several branches read, computed by the first that asks while the others wait for it. Nobody
        holds ``lock`` meanwhile, and results need each other in no circle, so no two threads wait for each other."""
        with self.lock:
            own = self.locks.setdefault(key, threading.RLock())
        with own:
            if key not in self.results:
                self.results[key] = compute()
            return self.results[key]

    def constant(self, expr: Expr) -> Any:
        """The value of a constant expression in this run."""
        from finequery.operators.constants import fold

        return fold(expr, self.parameters, self.subquery)

    def subquery(self, plan: Any) -> Any:
        """The one value of a scalar subquery, computed once a run."""
        key = id(plan)
        if key in self.results:
            return self.results[key]

        def compute() -> Any:
            frame, column = plan.scalar(self)
            if frame.length > 1:
                raise too_many_rows()
            from finequery.operators.values import physical_value

            return None if frame.length == 0 else physical_value(frame.columns[column], 0)

        begin, spent = time.perf_counter(), self.scalar_seconds
        try:
            return self.once(key, compute)
        finally:  # with what it spent on others inside of it, and on waiting for another thread
            self._mine.scalar_seconds = spent + time.perf_counter() - begin

    def passed_rows(self, item: int, rows: int) -> None:
        """Note rows that came out of a step."""
        with self.lock:
            self.passed[item] = self.passed.get(item, 0) + rows

    def depart(self, measured: Measured | None, reason: str, what: str = "A pipeline") -> None:
        """The CPU does what was placed on the GPU: noted, or an error where that is not allowed."""
        if self.strict:
            raise NotSupportedError(
                f"{what} can't run on the GPU: {reason}", hint="SET strict = false to let the CPU do it."
            )
        if measured is not None:
            measured.depart(reason)

    def placed(self, item: Any, measured: Measured, what: str, rows: int, work: Callable[[Any], _Result]) -> _Result:
        """What ``work`` gives for a sub-task that is no pipeline; it takes the device, or None for the CPU. It raises
        ``Unsupported`` before it changes anything; that reason, or a failure of the device, is a departure."""
        if self.halted():
            raise watch.interrupted()
        if self.where(item).device != "gpu" or not getattr(self.gpu, "kernels", True):
            begin = time.perf_counter()
            result = watch.aside(rows, work, None)
            measured.spans.append(("cpu", begin, time.perf_counter()))
            return result
        from finequery.operators.cuda.run import device_failure
        from finequery.operators.cuda.translate import Unsupported

        try:
            begin = time.perf_counter()
            with self.gpu.query():
                result = work(self.gpu)
        except Exception as error:
            reason = str(error) if isinstance(error, Unsupported) else device_failure(error)
            if reason is None:
                raise
        else:
            measured.ran_on("gpu")
            measured.spans.append(("gpu", begin, time.perf_counter()))
            return result
        self.depart(measured, reason, what)
        measured.ran_on("cpu")
        return watch.aside(rows, work, None)
