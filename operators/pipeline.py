"""Pipelines: sub-tasks between two breakers, lowered into one program and run morsel by morsel.

``Pipeline.run`` takes the rows of its source through its steps into a sink. What was compiled is kept with the
pipeline: a later run over the same encodings only writes new addresses into it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from finequery.errors import InternalError, NotSupportedError
from finequery.jetson import memory
from finequery.operators.column import BLOCK, ColumnData, Frame, Stats
from finequery.operators.expr import (
    Call,
    Case,
    Cast,
    Column,
    Expr,
    Literal,
    Parameter,
    columns_of,
    conjuncts,
    substitute,
    transform,
)
from finequery.operators.filter import lower_filter, stored_range
from finequery.operators.lower import Lower, NeedsHost, Stored
from finequery.operators.lower_probe import lower_probe, residual
from finequery.operators.materialize import Materialize
from finequery.operators.pool import Pool
from finequery.operators.probe import Probe, column_signature
from finequery.operators.profile import SINK, Profile
from finequery.operators.program import MORSEL, ONE_THREAD, TILE, Instance, Symbol, too_many_rows
from finequery.operators.star import ordered, passing, range_tests
from finequery.operators.trace import same

#: Programs that a pipeline keeps: a plan may serve several texts that differ in literals.
KEPT_PROGRAMS = 8
#: Columns of a pipeline's input with what the host adds: beyond, an expression was not found again in its place.
MOST_COLUMNS = 5000


@dataclass(eq=False)
class Filter:
    """Rows for which the predicate is true."""

    predicate: Expr
    estimate: float | None = None


@dataclass(eq=False)
class Project:
    """Names for expressions; nothing is computed before it is needed."""

    columns: tuple[tuple[Column, Expr], ...]


Step = Filter | Project | Probe


class Sink(Protocol):
    """The end of a pipeline."""

    instance: Instance | None

    def lower_into(self, lower: Lower) -> None: ...
    def empty(self) -> Frame: ...
    def prepare(self, threads: int, rows: int) -> None: ...
    def grow(self, thread: int) -> None: ...
    def cursor(self, thread: int) -> int: ...
    @property
    def wants_segments(self) -> bool: ...
    def finish(self, segments: np.ndarray | None, rows: int, used: int) -> Frame: ...
    def release(self) -> None: ...


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
    departed: list[str] = field(default_factory=list)  # why a program did not run on the device that was asked for
    profile: Profile | None = None  # of its programs on the CPU, by step, where the setting asks for it

    def profiled(self) -> Profile:
        """The profile of this run, to be added to."""
        if self.profile is None:
            self.profile = Profile()
        return self.profile

    def ran_on(self, device: str) -> None:
        """Note where a program ran."""
        self.device = device if self.device in ("", device) else "cpu and gpu"

    def depart(self, reason: str) -> None:
        """Note why a program did not run on the device that was asked for."""
        if reason not in self.departed:
            self.departed.append(reason)


@dataclass(eq=False)
class Context:
    """One execution: threads, parameters, results of shared subplans, and the record of what happened."""

    pool: Pool
    parameters: dict[int | str, Any] = field(default_factory=dict)
    results: dict[int, Any] = field(default_factory=dict)
    measured: dict[int, Measured] = field(default_factory=dict)  # by id of the task (a Probe: what its build took)
    passed: dict[int, int] = field(default_factory=dict)  # by id of the Filter or Probe: rows that came out of it
    stopped: Callable[[], bool] | None = None
    gpu: Any = None  # where pipelines run, if not on the CPU (jetson.device)
    strict: bool = False  # a departure from that is an error
    profile: bool = False  # measure every instruction
    account: memory.Account = field(default_factory=memory.Account)  # memory held and bytes moved, by kind
    scalar_seconds: float = 0.0  # spent on scalar subqueries, which run inside of what first needs them

    def constant(self, expr: Expr) -> Any:
        """The value of a constant expression in this run."""
        from finequery.operators.constants import fold

        return fold(expr, self.parameters, self.subquery)

    def subquery(self, plan: Any) -> Any:
        """The one value of a scalar subquery, computed once a run."""
        key = id(plan)
        if key not in self.results:
            begin, spent = time.perf_counter(), self.scalar_seconds
            frame, column = plan.scalar(self)
            self.scalar_seconds = spent + time.perf_counter() - begin
            if frame.length > 1:
                raise too_many_rows()
            from finequery.operators.values import physical_value

            self.results[key] = None if frame.length == 0 else physical_value(frame.columns[column], 0)
        return self.results[key]


class _Split(Exception):
    """The program has to end before step ``number``: a host function is to be computed there."""

    def __init__(self, number: int, expr: Expr, pairs: bool = False):
        self.number, self.expr, self.pairs = number, expr, pairs  # pairs: for the further condition of that probe


@dataclass(eq=False)
class Compiled:
    signature: Any
    instance: Instance | None
    sink: Sink
    empty: bool
    stored: dict[int, Stored]
    kept: list[Any]
    counted: list[int]  # ids of the steps whose rows are counted
    counters: np.ndarray  # rows that came out of each, by thread and step
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

    def run(self, context: Context, frame: Frame, measured: Measured | None = None) -> Frame:
        """Rows of ``frame`` through all steps; the look-ups of probes are built already."""
        begin, scalars = time.perf_counter(), context.scalar_seconds
        steps = self.steps
        constants: list[Any] = []

        def constant(expr: Expr) -> Any:
            value = context.constant(expr)
            constants.append((expr, value))
            return value

        compiled = self._kept(context, frame)
        if compiled is None:
            while True:
                start, inside = time.perf_counter(), context.scalar_seconds
                try:
                    compiled = self._compile(constant, frame, steps, context, constants)
                    break
                except _Split as split:
                    if len(frame.columns) > MOST_COLUMNS:
                        raise InternalError(f"{split.expr} is computed over and over") from None
                    if context.gpu is not None:
                        reason = f"{getattr(split.expr, 'name', split.expr)} is a host function"
                        if context.strict:
                            raise departure(reason) from None
                        if measured is not None:
                            measured.depart(reason)
                    frame, steps = self._host(context, frame, steps, split, measured)
                    constants.clear()
            if measured is not None:
                measured.compiled = True
                measured.compile_seconds += time.perf_counter() - start - (context.scalar_seconds - inside)
            if steps is self.steps:
                self.programs = [compiled, *self.programs[: KEPT_PROGRAMS - 1]]
        self.compiled = compiled if steps is self.steps else None
        result = execute(compiled, context, frame, steps, measured, self.bounds)
        if measured is not None:
            measured.rows_in += frame.length
            measured.rows_out += result.length
            measured.seconds += time.perf_counter() - begin - (context.scalar_seconds - scalars)
        return result

    def _signature(self, context: Context, frame: Frame) -> Any:
        columns = tuple((i, column_signature(c)) for i, c in frame.columns.items() if i in self.needed)
        probes = tuple(s.signature for s in self.steps if isinstance(s, Probe))
        return columns, probes, context.pool.threads, frame.length.bit_length(), context.gpu is not None

    def _kept(self, context: Context, frame: Frame) -> Compiled | None:
        """The program of an earlier run over the same encodings with the same constants."""
        if not self.programs:
            return None
        signature = self._signature(context, frame)
        for place, compiled in enumerate(self.programs):
            before, constants = compiled.signature
            if before == signature and all(same(context.constant(expr), value) for expr, value in constants):
                if place:
                    self.programs.insert(0, self.programs.pop(place))
                return compiled
        return None

    def _compile(
        self, constant: Callable[[Expr], Any], frame: Frame, steps: list[Step], context: Context, constants: list[Any]
    ) -> Compiled:
        lower = Lower(constant)
        lower.most_rows = 1 << frame.length.bit_length()
        lower.expected_rows = float(frame.length)
        lower.gpu = context.gpu is not None
        stored: dict[int, Stored] = {}
        box = _Box(frame)
        for i, data in frame.columns.items():
            stored[i] = Stored(data, None, lambda i=i: box.frame.columns[i])  # type: ignore[misc]
            lower.environment[i] = stored[i]
        empty = False
        moved = len(self.steps) - len(steps)  # after a split: the last steps are the last of all
        counters = np.zeros((context.pool.threads, len(steps) + 8), dtype=np.int64)
        counted: list[int] = []

        def owner(step: Step) -> int:
            place = steps.index(step) + moved
            return id(self.steps[place]) if place >= 0 else SINK

        def count(step: Step) -> None:
            place = Symbol(lambda thread: counters[thread], 8 * len(counted))
            if lower.deferred is not None:
                lower.emit("total_count_valid", lower.deferred, place, pure=False)
            else:
                lower.emit("total_count", place, pure=False)
            counted.append(owner(step))

        sink = self.make_sink()
        number = 0
        while number < len(steps) and not empty:
            step = steps[number]
            probes = _run_of_probes(steps, number + isinstance(step, Filter))
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
                    defer = not probes and self._defers(sink, lower, steps, number, frame.length)
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
                        raise _Split(steps.index(probe), need.expr, True) from None
                    if empty:
                        break
                    count(probe)
                number += len(probes)
            except NeedsHost as need:
                raise _Split(number if not isinstance(step, Filter) else steps.index(step), need.expr) from None
        instance = None
        lower.program.owner = SINK
        if not empty:
            try:
                sink.lower_into(lower)
            except NeedsHost as need:
                raise _Split(len(steps), need.expr) from None
            instance = Instance(lower.program, context.pool.threads)
        signature = (self._signature(context, frame) if steps is self.steps else None, list(constants))
        return Compiled(signature, instance, sink, empty, stored, [lower.kept, box, lower], counted, counters)

    def _defers(self, sink: Sink, lower: Lower, steps: list[Step], number: int, rows: int) -> bool:
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
        self, context: Context, frame: Frame, steps: list[Step], split: _Split, measured: Measured | None
    ) -> tuple[Frame, list[Step]]:
        """Run up to the step that needs a host function, compute that for the rows that are left, go on from there."""
        from finequery.operators.evaluate import host_column

        before, after = steps[: split.number], steps[split.number :]
        probe = after[0] if split.pairs else None
        if isinstance(probe, Probe) and probe.condition is not None:
            found = _copy_probe(probe)
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
            frame = part.run(context, frame, inner)
            if measured is not None and inner.device:
                measured.ran_on(inner.device)
                measured.departed += [reason for reason in inner.departed if reason not in measured.departed]
            if measured is not None and inner.profile is not None:
                measured.profiled().merge(inner.profile)
        fold = Lower(context.constant).fold  # as it was lowered: with constant parts computed
        expr = fold(substitute(split.expr, definitions))
        fresh = Column(expr.type, _fresh_id())
        frame = Frame({**frame.columns, fresh.id: host_column(expr, frame, context)}, frame.length)

        def swap(e: Expr) -> Expr:
            return transform(fold(substitute(e, definitions)), lambda x: fresh if x == expr else None)

        rest: list[Step] = [Project(tuple((Column(e.type, i), swap(e)) for i, e in definitions.items()))]
        for step in after:
            rest.append(_rewrite(step, swap))
        return frame, rest


def _run_of_probes(steps: list[Step], start: int) -> list[Probe]:
    """Probes that follow each other and may be exchanged: each by a column that none of the others gives."""
    run: list[Probe] = []
    given: set[int] = set()
    for step in steps[start:]:
        if not isinstance(step, Probe) or step.kind not in ("inner", "semi") or step_reads(step) & given:
            break
        run.append(step)
        given |= {c.id for c in step.payload}
    return run


class _Box:
    def __init__(self, frame: Frame):
        self.frame = frame


_fresh = [-(10**12)]


def _fresh_id() -> int:
    _fresh[0] -= 1
    return _fresh[0]


def step_reads(step: Step) -> set[int]:
    """Columns that a step reads."""
    if isinstance(step, Filter):
        return columns_of(step.predicate)
    if isinstance(step, Project):
        return set().union(*[columns_of(e) for _, e in step.columns]) if step.columns else set()
    reads = set().union(*[columns_of(left) for left, _ in step.keys]) if step.keys else set()
    if step.condition is not None:
        reads |= columns_of(step.condition)
    return reads


def _rewrite(step: Step, swap: Callable[[Expr], Expr]) -> Step:
    if isinstance(step, Filter):
        return Filter(swap(step.predicate), step.estimate)
    if isinstance(step, Project):
        return Project(tuple((c, swap(e)) for c, e in step.columns))
    step = _copy_probe(step)
    step.keys = tuple((swap(left), right) for left, right in step.keys)
    step.condition = None if step.condition is None else swap(step.condition)
    return step


def _copy_probe(probe: Probe) -> Probe:
    import copy

    return copy.copy(probe)


def execute(
    compiled: Compiled,
    context: Context,
    frame: Frame,
    steps: list[Step],
    measured: Measured | None,
    bounds: np.ndarray | None = None,
) -> Frame:
    """Run a compiled pipeline over a frame."""
    compiled.kept[1].frame = frame
    sink, instance = compiled.sink, compiled.instance
    rows = frame.length
    threads = context.pool.threads
    if instance is None:
        return sink.empty()
    if context.gpu is not None and rows:
        result = _on_gpu(compiled, context, frame, steps, measured, bounds)
        if result is not None:
            return result
    profile = measured.profiled() if measured is not None and context.profile else None
    begin = time.perf_counter()
    sink.prepare(threads, rows)
    prepared = time.perf_counter() - begin
    sink.instance = instance
    if rows == 0 or not instance.names:  # without instructions columns are only handed on
        result = sink.finish(np.zeros((0, 3), dtype=np.int64) if sink.wants_segments else None, rows, 1)
        compiled.kept[1].frame = EMPTY
        return result
    instance.bind()
    if measured is not None:
        measured.ran_on("cpu")
    count = -(-rows // MORSEL)
    skip = skipped_blocks(frame, steps, context, count) if rows > BLOCK else None
    segments = np.zeros((count, 3), dtype=np.int64) if sink.wants_segments else None
    if measured is not None:
        measured.morsels += count
        measured.skipped += 0 if skip is None else int(skip.sum())
        measured.threads = 1 if rows < ONE_THREAD else threads
        share = 1.0 if skip is None else 1.0 - int(skip.sum()) / count
        measured.bytes += int(compiled.read_bytes(frame) * share)
    compiled.counters[:] = 0
    instance.run(
        context.pool,
        rows,
        tile=getattr(sink, "tile", None) or TILE,
        bounds=bounds,
        skip=skip,
        segments=segments,
        cursor=sink.cursor if segments is not None else None,
        grow=sink.grow,
        stopped=context.stopped,
        profile=profile,
    )
    begin = time.perf_counter()
    for place, step in enumerate(compiled.counted):
        context.passed[step] = context.passed.get(step, 0) + int(compiled.counters[:, place].sum())
    result = sink.finish(segments, rows, threads)
    if profile is not None:
        profile.add(SINK, prepared + time.perf_counter() - begin)
    # the compiled pipeline stays with the plan: it must not keep a run's data alive
    instance.unbind()
    sink.release()
    compiled.kept[1].frame = EMPTY
    return result


EMPTY = Frame({}, 0)


def departure(reason: str, what: str = "A pipeline") -> NotSupportedError:
    """The error that a departure from the GPU is where none is allowed."""
    return NotSupportedError(f"{what} can't run on the GPU: {reason}", hint="SET strict = false to let the CPU do it.")


def _on_gpu(
    compiled: Compiled,
    context: Context,
    frame: Frame,
    steps: list[Step],
    measured: Measured | None,
    bounds: np.ndarray | None,
) -> Frame | None:
    """Run it as a kernel. None where that can't be done or fails, and the reason in ``measured``: the CPU then does it,
    from the same rows. With ``context.strict`` that is an error."""
    from finequery.operators.cuda.run import Run, device_failure
    from finequery.operators.cuda.translate import Unsupported, translate

    sink, instance, rows = compiled.sink, compiled.instance, frame.length
    assert instance is not None

    def depart(reason: str) -> None:
        sink.release()
        if context.strict:
            raise departure(reason)
        if measured is not None:
            measured.depart(reason)

    sink.prepare(1, rows)
    sink.instance = instance
    if compiled.kernel is None:
        try:
            if bounds is not None:
                raise Unsupported("rows in partitions are read partition by partition")
            compiled.kernel = translate(instance.program)
        except Unsupported as reason:
            compiled.kernel = str(reason)
    if isinstance(compiled.kernel, str):
        depart(compiled.kernel)
        return None
    count = -(-rows // MORSEL)
    skip = skipped_blocks(frame, steps, context, count) if rows > BLOCK else None
    run = Run(compiled.kernel, context.gpu, rows, skip)

    def prepare(attempt: int) -> None:
        if attempt:
            sink.prepare(1, rows)
            for _ in range(attempt):
                sink.grow(0)
        compiled.counters[:] = 0

    try:
        segments = run(sink, prepare)
    except Exception as error:
        failure = device_failure(error)
        if failure is None:
            raise
        depart(failure)
        return None
    note = getattr(sink, "note_groups", None)
    if note is not None:
        note(run.groups)
    for place, step in enumerate(compiled.counted):
        context.passed[step] = context.passed.get(step, 0) + int(compiled.counters[:, place].sum())
    if measured is not None:
        measured.ran_on("gpu")
        measured.morsels += count
        measured.skipped += 0 if skip is None else int(skip.sum())
        measured.bytes += compiled.read_bytes(frame)
    result = sink.finish(segments if sink.wants_segments else None, rows, 1)
    instance.unbind()
    sink.release()
    compiled.kept[1].frame = EMPTY
    return result


def skipped_blocks(frame: Frame, steps: list[Step], context: Context, count: int) -> np.ndarray | None:
    """A byte per block: 1 where the first filter's range tests show from block statistics that no row can pass."""
    if not steps or not isinstance(steps[0], Filter):
        return None
    skip: np.ndarray | None = None
    for term in conjuncts(steps[0].predicate):
        if not isinstance(term, Call) or term.name not in ("eq", "lt", "le", "gt", "ge"):
            continue
        left, right = term.args
        if not isinstance(left, Column) or left.id not in frame.columns or not isinstance(right, (Literal, Parameter)):
            continue
        data = frame.columns[left.id]
        low, high = data.stats.block_low, data.stats.block_high
        if low is None or high is None or data.kind not in ("uint", "int64") or len(low) != count:
            continue
        value = context.constant(right)
        if not isinstance(value, int):
            continue
        least, most = stored_range(data, term.name, value)
        out = (high < least) | (low > most)
        skip = out if skip is None else skip | out
    if skip is None or not skip.any():
        return None
    return np.ascontiguousarray(skip.astype(np.uint8))


def materialize(columns: list[Column], steps: list[Step]) -> Pipeline:
    """A pipeline that ends in columns."""
    return Pipeline(steps, lambda: Materialize(columns), {c.id for c in columns})


__all__ = ["Case", "Cast", "ColumnData", "Context", "Filter", "Pipeline", "Project", "Stats", "materialize"]
