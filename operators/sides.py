"""The second device of a run, as the executor sees it: something that takes batches of a program's morsels.

``CudaSide`` launches the program's kernel. ``Posing`` is a second pool of CPU threads that stands for a device: the
program's own primitives, run by other threads at the same time. It gives the answers of simulated boards, and lets
tests see hand-off, help and failure with real threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.operators.pool import Pool
from finequery.operators.program import MORSEL, Instance, Job


class Departed(Exception):
    """The device has no form for a program: the reason, in words for EXPLAIN."""


class SideFailed(Exception):
    """The device failed while it ran. ``untouched``: before it did anything of the batch."""

    def __init__(self, reason: str, untouched: bool = False):
        self.untouched = untouched
        super().__init__(reason)


class CudaSide:
    """A program's kernel on a CUDA device, as worker ``worker`` of the sink."""

    def __init__(self, device: Any, compiled: Any, rows: int, skip: np.ndarray | None, bounds: Any, worker: int):
        from finequery.operators.cuda.run import Run
        from finequery.operators.cuda.translate import Unsupported, translate

        if compiled.kernel is None:
            try:
                compiled.kernel = translate(compiled.instance.program)
            except Unsupported as reason:
                compiled.kernel = str(reason)
        if bounds is not None:
            raise Departed("rows in partitions are read partition by partition")
        if isinstance(compiled.kernel, str):
            raise Departed(compiled.kernel)
        self.compiled, self.rows = compiled, rows
        self.workers = range(worker, worker + 1)
        self.many = not getattr(compiled.sink, "restarts", False)  # batches; else one takes all
        self.run = Run(compiled.kernel, device, skip, worker)

    def batch(self, job: Job, first: int, end: int, segments: np.ndarray) -> None:
        """Run the kernel over morsels."""
        from finequery.operators.cuda.run import device_failure

        sink, bounds = self.compiled.sink, job.arrays[0]
        rows = (first * MORSEL, min(end * MORSEL, self.rows)) if bounds is None else (bounds[first], bounds[end])
        try:
            slot, count = self.run(sink, int(rows[0]), int(rows[1]))
        except Exception as error:
            failure = device_failure(error)
            if failure is None:
                raise
            raise SideFailed(failure) from error
        segments[first] = slot, 0, count
        note = getattr(sink, "note_groups", None)
        if note is not None:
            note(slot, self.run.groups)


@dataclass(eq=False)
class Posing:
    """A pool of CPU threads in the place of a device. ``fails``: called before every batch with its first morsel; what
    it raises is a failure of the device."""

    threads: int = 1
    fails: Callable[[int], None] | None = None
    kernels: bool = False  # nothing but pipelines runs here
    simulated: bool = True
    pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = Pool(self.threads)

    @property
    def info(self) -> Any:
        return self

    @contextlib.contextmanager
    def query(self, account: Any = None) -> Iterator[Any]:
        yield account


class PosingSide:
    """A program on the threads of ``Posing``, as workers from ``worker`` on."""

    many = True

    def __init__(self, device: Posing, compiled: Any, context: Any, worker: int):
        self.device, self.compiled, self.stopped = device, compiled, context.halted
        self.workers = range(worker, worker + device.threads)

    def batch(self, job: Job, first: int, end: int, segments: np.ndarray) -> None:
        """Run the program over morsels."""
        device, sink, instance = self.device, self.compiled.sink, self.compiled.instance
        assert isinstance(instance, Instance)
        if device.fails is not None:
            try:
                device.fails(first)
            except Exception as error:
                raise SideFailed(f"the device failed: {error}", untouched=True) from error
        cursor = sink.cursor if sink.wants_segments else None
        part = job.part(first, end)
        instance.run(device.pool, part, self.workers, cursor=cursor, grow=sink.grow, stopped=self.stopped)


def open_side(
    context: Any, compiled: Any, rows: int, skip: np.ndarray | None, bounds: Any, worker: int
) -> CudaSide | PosingSide:
    """The context's second device over a program; ``Departed`` if it can't run it."""
    if isinstance(context.gpu, Posing):
        return PosingSide(context.gpu, compiled, context, worker)
    return CudaSide(context.gpu, compiled, rows, skip, bounds, worker)
