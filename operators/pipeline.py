"""Pipelines: sub-tasks between two breakers, lowered into one program and run morsel by morsel.

``Pipeline.run`` takes the rows of its source through its steps into a sink. What was compiled is kept with the
pipeline: a later run over the same encodings only writes new addresses into it.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.errors import InternalError
from finequery.jetson import memory
from finequery.operators import watch
from finequery.operators.column import Frame, outline
from finequery.operators.context import CPU, Context, Measured, Placement
from finequery.operators.expr import Column, Expr, columns_of, substitute, transform
from finequery.operators.filter import lower_filter
from finequery.operators.lower import Lower, NeedsHost, Stored, host_reason
from finequery.operators.lower_probe import lower_probe, residual
from finequery.operators.materialize import Materialize
from finequery.operators.probe import Probe, column_signature
from finequery.operators.profile import SINK
from finequery.operators.program import Instance, Symbol
from finequery.operators.run import Box, Compiled, Sink
from finequery.operators.star import ordered, passing, range_tests
from finequery.operators.steps import Filter, Project, Step, rewrite, run_of_probes, step_reads
from finequery.operators.trace import same

#: Programs that a pipeline keeps: a plan may serve several texts that differ in literals.
KEPT_PROGRAMS = 8
#: Columns of a pipeline's input with what the host adds: beyond, an expression was not found again in its place.
MOST_COLUMNS = 5000


class Split(Exception):
    """The program has to end before step ``number``: a host function is to be computed there."""

    def __init__(self, number: int, expr: Expr, pairs: bool = False):
        self.number, self.expr, self.pairs = number, expr, pairs  # pairs: for the further condition of that probe
        super().__init__(host_reason(expr))


@dataclass(frozen=True, slots=True)
class Bound:
    """Rows that a program reads: at the most, over the whole run (sums are proven not to overflow by it), and by
    expectation."""

    most: int
    expected: float


class Pipeline:
    """A source of rows and the steps they pass. ``source`` gives a Frame (or None: one row without columns)."""

    def __init__(self, steps: list[Step], make_sink: Callable[[], Sink], sink_reads: set[int]):
        self.steps = steps
        self.make_sink = make_sink
        self.sink_reads = sink_reads  # sinks read columns by id alone; what has to be computed is a Project before them
        self.needed = sink_reads.union(*[step_reads(s) for s in steps])
        self.compiled: Compiled | None = None  # of the last run
        self.programs: list[Compiled] = []  # kept from earlier runs, the last one first
        self.bounds: np.ndarray | None = None  # morsels other than equal ones
        self.phases: dict[int, tuple[Pipeline, Pipeline]] = {}  # by number of steps in the first (phases.py)

    def run(
        self, context: Context, frame: Frame, measured: Measured | None = None, where: Placement | None = None
    ) -> Frame:
        """Rows of ``frame`` through all steps; the look-ups of probes are built already. ``where``: what the context
        says of all pipelines, if nothing."""
        if context.halted():
            raise watch.interrupted()
        measured, where = measured or Measured(), where or context.placement
        begin, scalars = time.perf_counter(), context.scalar_seconds
        phased = where.device == "phases" and self.bounds is None
        result = self._in_phases(context, frame, measured, where) if phased else None
        if result is None:
            result = self._whole(context, frame, measured, CPU if where.device == "phases" else where)
        measured.rows_in += frame.length
        measured.rows_out += result.length
        measured.seconds += time.perf_counter() - begin - (context.scalar_seconds - scalars)
        return result

    def _in_phases(self, context: Context, frame: Frame, measured: Measured, where: Placement) -> Frame | None:
        """Batch by batch through two devices; None where it is for the CPU to do."""
        from finequery.operators.phases import run_phases
        from finequery.operators.sides import Departed

        try:
            return run_phases(self, context, frame, measured, where)
        except Departed as reason:
            context.depart(measured, str(reason))
            return None

    def _whole(self, context: Context, frame: Frame, measured: Measured, where: Placement) -> Frame:
        """All steps over all rows, with a stop at every host function."""
        steps = self.steps
        while True:
            try:
                compiled = self.program(context, frame, steps, measured, where)
                break
            except Split as split:
                if len(frame.columns) > MOST_COLUMNS:
                    raise InternalError(f"{split.expr} is computed over and over") from None
                if where.device != "cpu":
                    context.depart(measured, str(split))
                frame, steps = self._host(context, frame, steps, split, measured, where)
        self.compiled = compiled if steps is self.steps else None
        return compiled.run(context, frame, steps, measured, where, self.bounds)

    def program(
        self,
        context: Context,
        frame: Frame,
        steps: list[Step],
        measured: Measured,
        where: Placement,
        bound: Bound | None = None,
    ) -> Compiled:
        """The program over a frame's encodings, of an earlier run or made now; ``Split`` at a host function. ``bound``:
        how many rows there will be, where it is not this frame that is read."""
        bound = bound or Bound(1 << frame.length.bit_length(), float(frame.length))
        whole = steps is self.steps
        compiled = self._kept(context, frame, where, bound) if whole else None
        if compiled is None:
            start, inside = time.perf_counter(), context.scalar_seconds
            compiled = self._compile(frame, steps, context, where, bound)
            measured.compiled = True
            measured.compile_seconds += time.perf_counter() - start - (context.scalar_seconds - inside)
            if whole:
                self.programs = [compiled, *self.programs[: KEPT_PROGRAMS - 1]]
        return compiled

    def _signature(self, context: Context, frame: Frame, where: Placement, bound: Bound) -> Any:
        columns = tuple((i, column_signature(c)) for i, c in frame.columns.items() if i in self.needed)
        probes = tuple(s.signature for s in self.steps if isinstance(s, Probe))
        return columns, probes, context.workers(where), bound.most, where.device != "cpu"

    def _kept(self, context: Context, frame: Frame, where: Placement, bound: Bound) -> Compiled | None:
        """The program of an earlier run over the same encodings with the same constants."""
        if not self.programs:
            return None
        signature = self._signature(context, frame, where, bound)
        for place, compiled in enumerate(self.programs):
            before, constants = compiled.signature
            if before == signature and all(same(context.constant(expr), value) for expr, value in constants):
                if place:
                    self.programs.insert(0, self.programs.pop(place))
                return compiled
        return None

    def _compile(self, frame: Frame, steps: list[Step], context: Context, where: Placement, bound: Bound) -> Compiled:
        constants: list[Any] = []

        def constant(expr: Expr) -> Any:
            value = context.constant(expr)
            constants.append((expr, value))
            return value

        lower = Lower(constant)
        lower.most_rows, lower.expected_rows = bound.most, bound.expected
        lower.gpu, lower.shared = where.device != "cpu", where.device == "both"
        stored: dict[int, Stored] = {}
        box, workers = Box(frame), context.workers(where)
        for i, data in frame.columns.items():
            stored[i] = Stored(outline(data), None, lambda i=i: box.frame.columns[i])  # type: ignore[misc]
            lower.environment[i] = stored[i]
        empty = False
        moved = len(self.steps) - len(steps)  # after a split: the last steps are the last of all
        counters = memory.zeros((workers, len(steps) + 8), np.int64)
        counted: list[int] = []

        def owner(step: Step) -> int:
            place = steps.index(step) + moved
            return id(self.steps[place]) if place >= 0 else SINK

        def count(step: Step) -> None:
            # a sink may have more slots than workers (Materialize.slot): they are the device's, the last worker
            place = Symbol(lambda slot: counters[min(slot, workers - 1)], 8 * len(counted))
            if lower.deferred is not None:
                lower.emit("total_count_valid", lower.deferred, place, pure=False)
            else:
                lower.emit("total_count", place, pure=False)
            counted.append(owner(step))

        sink = self.make_sink()
        number = 0
        while number < len(steps) and not empty:
            step = steps[number]
            probes = run_of_probes(steps, number + isinstance(step, Filter))
            try:
                if isinstance(step, Project):
                    for column, expr in step.columns:
                        if not (isinstance(expr, Column) and expr.id == column.id):
                            lower.environment[column.id] = lower.fold(expr)
                            lower.owners[column.id] = owner(step)
                    number += 1
                    continue
                lower.program.owner = owner(step)
                if isinstance(step, Filter):
                    # range tests of the build sides behind a filter join its mask
                    tests = range_tests(lower, probes) if lower.space == 0 else []
                    defer = not probes and self._defers(sink, lower, steps, number, bound.expected)
                    empty = not lower_filter(lower, step.predicate, tests, defer)
                    number += 1
                elif len(probes) > 1:
                    empty = not lower_filter(lower, None, range_tests(lower, probes) if lower.space == 0 else [])
                elif not probes:
                    probes = [step]
                if isinstance(step, Filter) and not empty:
                    count(step)
                for probe in ordered(lower, probes) if not empty else ():
                    lower.program.owner = owner(probe)
                    lower.expected_rows *= passing(lower, probe)
                    empty = not lower_probe(lower, probe)
                    try:
                        empty = empty or not residual(lower, probe)
                    except NeedsHost as need:
                        raise Split(steps.index(probe), need.expr, True) from None
                    if empty:
                        break
                    count(probe)
                number += len(probes)
            except NeedsHost as need:
                raise Split(number if not isinstance(step, Filter) else steps.index(step), need.expr) from None
        instance = None
        lower.program.owner = SINK
        if not empty:
            try:
                sink.lower_into(lower)
            except NeedsHost as need:
                raise Split(len(steps), need.expr) from None
            instance = Instance(lower.program, workers)
        signature = (self._signature(context, frame, where, bound) if steps is self.steps else None, constants)
        return Compiled(signature, instance, sink, stored, lower, box, counted, counters)

    def _defers(self, sink: Sink, lower: Lower, steps: list[Step], number: int, rows: float) -> bool:
        """Whether the filter may be left to the sink: it is the last step but for names, and most rows pass it."""
        if any(not isinstance(s, Project) for s in steps[number + 1 :]) or lower.space != 0:
            return False
        step = steps[number]
        defers = getattr(sink, "defers", None)
        if defers is None or not isinstance(step, Filter) or not step.estimate or step.estimate < 0.5 * rows:
            return False
        definitions = [s for s in steps[number + 1 :] if isinstance(s, Project)]
        for project in definitions:
            for column, expr in project.columns:
                if not (isinstance(expr, Column) and expr.id == column.id):
                    lower.environment[column.id] = lower.fold(expr)
                    lower.owners[column.id] = id(project)
        return bool(defers(lower))

    def _host(
        self, context: Context, frame: Frame, steps: list[Step], split: Split, measured: Measured, where: Placement
    ) -> tuple[Frame, list[Step]]:
        """Run up to the step that needs a host function, compute that for the rows that are left, go on from there."""
        from finequery.operators.evaluate import host_column

        before, after = steps[: split.number], steps[split.number :]
        probe = after[0] if split.pairs else None
        if isinstance(probe, Probe) and probe.condition is not None:
            found = copy.copy(probe)
            found.condition = None
            before, after = [*before, found], [Filter(probe.condition), *after[1:]]
        definitions: dict[int, Expr] = {}
        for step in before:
            if isinstance(step, Project):
                for column, expr in step.columns:
                    if not (isinstance(expr, Column) and expr.id == column.id):
                        definitions[column.id] = substitute(expr, definitions)
        wanted: set[int] = set()
        for step in after:
            wanted |= step_reads(step)
        wanted |= self.sink_reads
        wanted |= columns_of(split.expr)
        probes = [c for s in before if isinstance(s, Probe) for c in (*s.payload, *((s.mark,) if s.mark else ()))]
        available = dict.fromkeys(frame.columns) | {c.id: None for c in probes}
        leaves: set[int] = set()
        for number in wanted:
            if number in definitions:
                leaves |= columns_of(definitions[number])
            else:
                leaves.add(number)
        leaves &= set(available)
        if any(isinstance(s, (Filter, Probe)) for s in before):
            types = {c.id: c for c in probes}
            columns = [types.get(i) or Column(frame.columns[i].type, i) for i in sorted(leaves)]
            part = Pipeline(list(before), lambda: Materialize(columns), leaves)
            inner = Measured()
            frame = part.run(context, frame, inner, where)
            measured.join(inner)
        fold = Lower(context.constant).fold  # as it was lowered: with constant parts computed
        expr = fold(substitute(split.expr, definitions))
        fresh = Column(expr.type, next(_fresh))
        frame = Frame({**frame.columns, fresh.id: host_column(expr, frame, context)}, frame.length)

        def swap(e: Expr) -> Expr:
            return transform(fold(substitute(e, definitions)), lambda x: fresh if x == expr else None)

        rest: list[Step] = [Project(tuple((Column(e.type, i), swap(e)) for i, e in definitions.items()))]
        for step in after:
            rest.append(rewrite(step, swap))
        return frame, rest


_fresh = itertools.count(-(10**12) - 1, -1)


def materialize(columns: list[Column], steps: list[Step]) -> Pipeline:
    """A pipeline that ends in columns."""
    return Pipeline(steps, lambda: Materialize(columns), {c.id for c in columns})
