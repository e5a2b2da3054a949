"""The sub-tasks of a plan: what is run, over how much of what, and how memory is touched.

``split`` turns the DAG of tasks that ``planner.physical`` builds into *pipelines* of *sub-tasks*. A pipeline starts at
a source (a scan, constant rows, the result of an earlier pipeline), takes its rows through filters, projections and
probes, and ends in a breaker: a build, an aggregation, a sort, a window, a limit, or columns that somebody reads. It is
the unit that is fused and measured and, later, placed on a device; a sub-task is the unit that a model can price.

Every sub-task has *input attributes* (rows, columns with their widths, selectivity, match rate, distinct keys, groups,
size of its table) and one *operand* for every piece of memory it touches, with its *access pattern*: streamed or
random, read or written. Everything here is known before the query runs. ``split`` reads the plan and the tables'
statistics, runs nothing and changes nothing; what a run took is kept by id of ``SubTask.item`` in ``Context.measured``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from finequery.operators import tasks
from finequery.operators.aggregate import Aggregate
from finequery.operators.expr import Call, Case, Cast, Column, Expr, ScalarSubquery, columns_of, conjuncts, walk
from finequery.operators.pair_join import PairJoin
from finequery.operators.probe import Probe
from finequery.operators.steps import Filter, Project, Step, run_of_probes
from finequery.operators.tasks import Task
from finequery.planner import algorithms
from finequery.planner.algorithms import Choice
from finequery.planner.attributes import Attribute, computed, renamed, stored
from finequery.planner.estimate import estimate, expression
from finequery.planner.expected import domain_of, entry_bytes, expected_lookup
from finequery.planner.star import expected

#: Sub-tasks that a pipeline starts with.
SOURCES = frozenset(["scan", "values", "union", "read"])
#: Access patterns. A column that is read after a selection, in the order of its rows, still counts as streamed.
STREAMED_READ, RANDOM_READ = "streamed read", "random read"
STREAMED_WRITE, RANDOM_WRITE = "streamed write", "random write"

#: Sub-tasks that end a pipeline.
BREAKERS = frozenset(["build", "aggregate", "sort", "top-k", "window", "limit", "pairs", "materialize"])
#: Operations that one of 128 bits counts as, one of the logic of masks, and the tests of a column for NULL.
WIDE, LOGIC, NULLS = 8.0, 0.25, 4.0
#: Bytes of a row number, of which selections and look-ups are made.
ROW_NUMBER = 4.0


class Operand(NamedTuple):
    """Memory that a sub-task touches: ``rows`` entries of ``width`` bytes. ``near``: vectors of the tile, or a column
    that a sub-task before it in the pipeline has read, in the caches by then. ``table``: bytes of what is touched at
    random."""

    name: str
    access: str
    rows: float
    width: float
    near: bool = False
    table: float = 0.0

    @property
    def nbytes(self) -> float:
        return self.rows * self.width


@dataclass(slots=True, eq=False)
class SubTask:
    """One operator of a pipeline. Attributes that a kind does not have are None."""

    kind: str  # scan values union read filter project probe, or one of BREAKERS
    item: Any  # the task or step that runs it
    rows_in: float
    rows_out: float
    inputs: tuple[Attribute, ...] = ()
    operands: tuple[Operand, ...] = ()
    choice: Choice | None = None  # the algorithm that is expected
    reads: tuple[int, ...] = ()  # pipelines whose results it uses
    selectivity: float | None = None  # filter: share of the rows that pass
    match_rate: float | None = None  # probe: rows out for each row in
    distinct: float | None = None  # build: different keys
    groups: float | None = None  # aggregate
    steps: float = 0.0  # operations a row: of expressions, keys to be packed or ordered by, aggregates, tests for NULL
    among: float = 0.0  # rows of the pipeline's source, among which those of its input stand
    written: bool = False  # build, materialize: rows are written out first
    device: str = "cpu"

    @property
    def width(self) -> float:
        """Bytes of a row of its input."""
        return sum(a.width for a in self.inputs)

    @property
    def table_bytes(self) -> float | None:
        """Size of the structure it builds or looks up in."""
        return None if self.choice is None or not self.choice.nbytes else self.choice.nbytes

    def access(self, pattern: str) -> float:
        """Bytes it touches in a pattern."""
        return sum(o.nbytes for o in self.operands if o.access == pattern)


@dataclass(slots=True, eq=False)
class PipelineInfo:
    """Sub-tasks from a source to a breaker. ``after``: the pipelines that have to be through before it starts.
    ``runs``: the tasks (and the Probe of a build) whose measured times are this pipeline's."""

    number: int
    subtasks: list[SubTask] = field(default_factory=list)
    after: tuple[int, ...] = ()
    runs: tuple[Any, ...] = ()
    purpose: str = ""  # where it is not plain from its breaker: result, shared, scalar subquery
    device: str = "cpu"

    @property
    def source(self) -> SubTask:
        return self.subtasks[0]

    @property
    def breaker(self) -> SubTask:
        return self.subtasks[-1]

    @property
    def kinds(self) -> list[str]:
        return [s.kind for s in self.subtasks]

    @property
    def rows(self) -> float:
        """Rows of its source."""
        return self.source.rows_out


def split(root: Task) -> list[PipelineInfo]:
    """The pipelines of a plan in the order in which they can run; the last one gives the result."""
    splitter = _Splitter()
    last = splitter.complete(root)
    last.purpose = "result"
    return splitter.pipelines


class _Open:
    """A pipeline that has no breaker yet."""

    def __init__(self, source: SubTask, after: Iterable[int] = ()):
        self.subtasks = [source]
        self.after = list(after)
        self.rows = source.rows_out
        self.source_rows = source.rows_out
        self.runs: list[Any] = [source.item] if source.kind != "read" else []
        self.fetched: dict[int, float] = {}  # columns on build sides, read by row number: their bytes there
        self.near: set[int] = set()  # columns read or computed by now
        self.computed: set[int] = set()  # columns that a projection computes

    @property
    def chooses(self) -> bool:  # whether not all rows of its source come through
        return any(s.kind in ("filter", "probe") for s in self.subtasks)

    def kept(self, columns: Iterable[Column]) -> tuple[Column, ...]:
        """Those of the columns that have to be written at the pipeline's end. Where all rows stay, the source's own are
        handed on as they are."""
        return tuple(c for c in columns if self.chooses or c.id in self.computed)


class _Splitter:
    def __init__(self) -> None:
        self.pipelines: list[PipelineInfo] = []
        self.done: dict[int, PipelineInfo] = {}
        self.attributes: dict[int, Attribute] = {}

    # --- attributes and operands ----------------------------------------------------------------------------------

    def attribute(self, column: Column, made_of: Iterable[Expr] = ()) -> Attribute:
        found = self.attributes.get(column.id)
        if found is None:
            read = self.known(set().union(*map(columns_of, made_of)))
            found = self.attributes[column.id] = computed(column, any(a.encoding == "i128" for a in read))
        return found

    def known(self, ids: Iterable[int]) -> tuple[Attribute, ...]:
        return tuple(self.attributes[i] for i in sorted(ids) if i in self.attributes)

    def reads(self, open_: _Open, attributes: tuple[Attribute, ...], rows: float) -> list[Operand]:
        """Columns that are read for ``rows`` rows: streamed, or by row number where a probe found them."""
        found = []
        for a in attributes:
            table, near = open_.fetched.get(a.id), a.id in open_.near
            found.append(
                Operand(a.name, STREAMED_READ if table is None else RANDOM_READ, rows, a.width, near, table or 0.0)
            )
        open_.near |= {a.id for a in attributes}
        return found

    def writes(
        self, columns: tuple[Column, ...], rows: float, access: str = STREAMED_WRITE, near: bool = False
    ) -> list[Operand]:
        table = rows if access == RANDOM_WRITE else 0.0
        return [Operand(a.name, access, rows, a.width, near, table * a.width) for a in map(self.attribute, columns)]

    def operations(self, exprs: Iterable[Expr]) -> float:
        """Operations a row. Comparisons of a column with constants are one test of its range."""
        terms = [term for e in exprs for term in conjuncts(e)]
        ranges = {c.id for term in terms if (c := _compared(term)) is not None}
        return len(ranges) + sum(self._operations(term) for term in terms if _compared(term) is None)

    def _operations(self, e: Expr) -> float:
        """Those of 128 bits count as many; one over text as one for each byte. A predicate over one column of codes is
        looked up by code, whatever it computes."""
        read = self.known(columns_of(e))
        if len(read) == 1 and read[0].encoding.startswith("dict") and not isinstance(e, Column):
            return 1.0
        if not isinstance(e, (Call, Case, Cast)):
            return 0.0
        if isinstance(e, Call) and e.name in ("and", "or", "not"):
            return LOGIC * max(len(e.args) - 1, 1) + sum(map(self._operations, e.children))
        own = WIDE if any(a.encoding == "i128" for a in read) else 1.0
        own = max(own, *(a.width for a in read if a.encoding == "text"), 0.0)
        return own + sum(map(self._operations, e.children))

    # --- sources --------------------------------------------------------------------------------------------------

    def open(self, task: Task) -> _Open:
        """The pipeline that a task's rows come out of, to be gone on with."""
        rows = _rows(task)
        if isinstance(task, tasks.Scan):
            for column, name in zip(task.columns, task.names):
                self.attributes[column.id] = stored(column, name, task.table)
            inputs = tuple(self.attributes[c.id] for c in task.columns)
            operands = [Operand(a.name, STREAMED_READ, rows, a.width) for a in inputs]
            return _Open(SubTask("scan", task, rows, rows, inputs, tuple(operands)))
        if isinstance(task, tasks.Values):
            after = self.scalars(e for row in task.rows for e in row)
            made = tuple(map(self.attribute, task.columns))
            return _Open(SubTask("values", task, rows, rows, made, reads=after), after)
        if isinstance(task, tasks.Pipe):
            open_ = self.open(task.source)
            self.steps(open_, task.steps)
            open_.runs.append(task)
            return open_
        if isinstance(task, tasks.UnionAll):
            parts = tuple(self.complete(p).number for p in task.parts)
            for column, *same in zip(task.columns, *task.part_columns):
                widest = max((self.attribute(c) for c in same), key=lambda a: a.width)
                self.attributes[column.id] = renamed(widest, column)
            inputs = tuple(map(self.attribute, task.columns))
            operands = [Operand(a.name, STREAMED_READ, rows, a.width) for a in inputs]
            operands += self.writes(task.columns, rows)
            return _Open(SubTask("union", task, rows, rows, inputs, tuple(operands), reads=parts), parts)
        below = self.complete(task)
        inputs = tuple(map(self.attribute, task.columns))
        operands = [Operand(a.name, STREAMED_READ, rows, a.width) for a in inputs]
        source = SubTask("read", task, rows, rows, inputs, tuple(operands), reads=(below.number,))
        return _Open(source, (below.number,))

    def scalars(self, exprs: Iterable[Expr]) -> tuple[int, ...]:
        """The pipelines that give the scalar subqueries in expressions."""
        found: list[int] = []
        for expr in exprs:
            for e in walk(expr):
                if isinstance(e, ScalarSubquery) and isinstance(e.plan, tasks.Scalar):
                    pipeline = self.complete(e.plan.task)
                    pipeline.purpose = "scalar subquery"
                    found.append(pipeline.number)
        return tuple(dict.fromkeys(found))

    # --- steps ----------------------------------------------------------------------------------------------------

    def steps(self, open_: _Open, steps: list[Step]) -> None:
        """In the order in which they run: that of probes of a star is expected from their build sides."""
        source = open_.subtasks[0]
        scanned = {a.id: a for a in source.inputs} if source.kind == "scan" else {}
        number = 0
        while number < len(steps):
            step = steps[number]
            if isinstance(step, Project):
                self.project(open_, step)
                number += 1
                continue
            filtered = isinstance(step, Filter)
            probes = run_of_probes(steps, number + filtered) or ([step] if isinstance(step, Probe) else [])
            before = open_.rows if not filtered or step.estimate is None else min(open_.rows, step.estimate)
            star = expected(probes, before, open_.source_rows, scanned)
            within = math.prod(e.within for e in star)  # tests of ranges come first: they join a filter's mask
            if isinstance(step, Filter):
                self.filter(open_, step, within)
                within = 1.0
            built = {id(e): self.build(e, open_.source_rows) for e in probes}
            for one in star:
                self.probe(open_, one.probe, built[id(one.probe)], one.rest * within)
                within = 1.0
            number += filtered + len(probes)

    def add(self, open_: _Open, subtask: SubTask) -> None:
        subtask.among = open_.source_rows
        subtask.steps += NULLS * sum(a.nulls > 0 for a in subtask.inputs) if subtask.kind not in SOURCES else 0
        open_.subtasks.append(subtask)
        open_.after += subtask.reads
        open_.rows = subtask.rows_out

    def filter(self, open_: _Open, step: Filter, within: float) -> None:
        before = open_.rows
        after = min(before, before if step.estimate is None else step.estimate) * within
        inputs = self.known(columns_of(step.predicate))
        operands = [*self.reads(open_, inputs, before), Operand("selection", STREAMED_WRITE, after, ROW_NUMBER, True)]
        scalars = self.scalars([step.predicate])
        share = after / before if before else 1.0
        subtask = SubTask("filter", step, before, after, inputs, tuple(operands), reads=scalars, selectivity=share)
        subtask.steps = self.operations([step.predicate])
        self.add(open_, subtask)

    def project(self, open_: _Open, step: Project) -> None:
        """Columns that only get another name are no work and no sub-task."""
        made = []
        for column, e in step.columns:
            if isinstance(e, Column):
                if e.id in self.attributes:
                    self.attributes.setdefault(column.id, renamed(self.attributes[e.id], column))
                if e.id in open_.fetched:
                    open_.fetched[column.id] = open_.fetched[e.id]
                for marks in (open_.near, open_.computed):
                    if e.id in marks:
                        marks.add(column.id)
            else:
                self.attribute(column, (e,))
                made.append((column, e))
        if not made:
            return
        inputs = self.known(set().union(*[columns_of(e) for _, e in made]))
        columns, rows = tuple(c for c, _ in made), open_.rows
        operands = self.reads(open_, inputs, rows) + self.writes(columns, rows, near=True)
        open_.near |= {c.id for c in columns}
        open_.computed |= {c.id for c in columns}
        subtask = SubTask("project", step, rows, rows, inputs, tuple(operands))
        subtask.reads, subtask.steps = self.scalars(e for _, e in made), self.operations(e for _, e in made)
        self.add(open_, subtask)

    def probe(self, open_: _Open, step: Probe, built: PipelineInfo, share: float) -> None:
        before, after = open_.rows, open_.rows * share
        wanted = set().union(*[columns_of(left) for left, _ in step.keys]) if step.keys else set()
        if step.condition is not None:
            wanted |= columns_of(step.condition)
        inputs = self.known(wanted)
        operands = self.reads(open_, inputs, before)
        choice = built.breaker.choice
        assert choice is not None
        name = f"{choice.name} of pipeline {built.number}"
        operands.append(Operand(name, RANDOM_READ, before, entry_bytes(choice), table=choice.nbytes))
        operands.append(Operand("selection", STREAMED_WRITE, after, ROW_NUMBER, True))
        open_.fetched |= {c.id: built.breaker.rows_out * self.attribute(c).width for c in step.payload}
        scalars = self.scalars([left for left, _ in step.keys] + ([] if step.condition is None else [step.condition]))
        if step.mark is not None:
            self.attribute(step.mark)
        subtask = SubTask("probe", step, before, after, inputs, tuple(operands), choice, (built.number, *scalars))
        subtask.match_rate = after / before if before else 0.0
        subtask.steps = len(step.keys) + self.operations(left for left, _ in step.keys)
        if step.condition is not None:  # of the rows that found a partner
            subtask.steps += self.operations([step.condition]) * subtask.match_rate
        self.add(open_, subtask)

    def build(self, step: Probe, probes: float) -> PipelineInfo:
        """The pipeline of a join's right side."""
        open_ = self.open(step.build)
        rows = open_.rows
        keys = [right for _, right in step.keys]
        inputs = self.known(set().union(*[columns_of(k) for k in keys])) if keys else ()
        choice, distinct = expected_lookup(step, rows, probes)
        operands = self.reads(open_, inputs, rows)
        if step.need_rows:
            payload = open_.kept(c for c in step.payload if c.id not in {a.id for a in inputs})
            operands += self.reads(open_, tuple(map(self.attribute, payload)), rows) + self.writes(payload, rows)
        operands.append(Operand(choice.name, RANDOM_WRITE, rows, entry_bytes(choice), table=choice.nbytes))
        operands.append(Operand("empty table", STREAMED_WRITE, 1.0, choice.nbytes, table=choice.nbytes))
        scalars = self.scalars(keys)
        subtask = SubTask("build", step, rows, rows, inputs, tuple(operands), choice, scalars, distinct=distinct)
        subtask.steps, subtask.written = len(keys) + self.operations(keys), open_.chooses
        return self.end(open_, subtask)

    # --- breakers -------------------------------------------------------------------------------------------------

    def end(self, open_: _Open, subtask: SubTask) -> PipelineInfo:
        self.add(open_, subtask)
        after = tuple(sorted(set(open_.after)))
        runs = tuple({id(t): t for t in [*open_.runs, subtask.item]}.values())
        pipeline = PipelineInfo(len(self.pipelines) + 1, open_.subtasks, after, runs)
        self.pipelines.append(pipeline)
        return pipeline

    def complete(self, task: Task) -> PipelineInfo:
        """The pipeline at whose end the task's rows are there as columns."""
        found = self.done.get(id(task))
        if found is None:
            found = self.done[id(task)] = self._complete(task)
        return found

    def _complete(self, task: Task) -> PipelineInfo:
        if isinstance(task, Aggregate):
            return self.aggregate(task)
        if isinstance(task, tasks.Shared):
            shared = self.complete(task.source)
            shared.purpose = "shared"
            return shared
        if isinstance(task, PairJoin):
            return self.pairs(task)
        if isinstance(task, tasks.Sort):
            return self.sort(task)
        if isinstance(task, tasks.Window):
            return self.window(task)
        rows = _rows(task)
        if isinstance(task, tasks.Limit):
            open_ = self.open(task.source)
            inputs = tuple(map(self.attribute, task.columns))
            operands = self.reads(open_, inputs, rows) + self.writes(task.columns, rows)
            return self.end(open_, SubTask("limit", task, open_.rows, rows, inputs, tuple(operands)))
        open_ = self.open(task)
        kept = open_.kept(task.columns)
        inputs = tuple(map(self.attribute, kept))
        operands = self.reads(open_, inputs, open_.rows) + self.writes(kept, open_.rows)
        subtask = SubTask("materialize", task, open_.rows, open_.rows, inputs, tuple(operands))
        subtask.written = bool(kept)
        return self.end(open_, subtask)

    def aggregate(self, task: Aggregate) -> PipelineInfo:
        open_ = self.open(task.source)
        self.steps(open_, task.steps)
        groups = min(max(task.expected_groups or 1.0, 1.0), max(open_.rows, 1.0)) if task.groups else 1.0
        inputs = tuple(map(self.attribute, task.reads))
        below = None if task.node is None else estimate(task.node.input)
        grouped = [] if below is None else [(e, expression(e, below)) for _, e in task.node.groups]
        text = any(self.attribute(c).encoding == "text" for c in task.groups)
        passing = open_.source_rows
        for probe in open_.subtasks:
            passing *= min(1.0, 1.0 if probe.match_rate is None else probe.match_rate)
        shape = len(task.groups), len(task.calls), _sorted(task, open_), text
        choice = algorithms.aggregation(open_.source_rows, passing, groups, domain_of(grouped), *shape)
        entry = 8.0 * (len(task.calls) + 1)
        operands = self.reads(open_, inputs, open_.rows)
        access = RANDOM_WRITE if task.groups and choice.name != "runs" else STREAMED_WRITE
        table = choice.nbytes if access == RANDOM_WRITE else 0.0
        entries = open_.rows if access == RANDOM_WRITE else groups
        operands.append(Operand("accumulators", access, entries, entry, table=table))
        if table:
            operands.append(Operand("empty accumulators", STREAMED_WRITE, 1.0, table, table=table))
        operands += self.writes(task.columns, groups)
        subtask = SubTask("aggregate", task, open_.rows, groups, inputs, tuple(operands), choice, groups=groups)
        subtask.steps = len(task.groups) + len(task.calls)
        return self.end(open_, subtask)

    def sort(self, task: tasks.Sort) -> PipelineInfo:
        open_ = self.open(task.source)
        before, after = open_.rows, min(open_.rows, _rows(task))
        inputs = tuple(self.attribute(c) for c, _, _ in task.keys)
        kind = "sort" if task.limit is None else "top-k"
        operands = self.reads(open_, inputs, before)
        choice = algorithms.sorting(before, None if kind == "sort" else after)
        words = after if choice.name == "threshold" else before
        operands.append(Operand("sort words", RANDOM_WRITE, words, 8.0, table=8.0 * words))
        taken = map(self.attribute, task.columns)
        operands += [Operand(a.name, RANDOM_READ, after, a.width, table=before * a.width) for a in taken]
        operands += self.writes(task.columns, after)
        scalars = self.scalars(e for e in (task.limit, task.offset) if e is not None)
        subtask = SubTask(kind, task, before, after, inputs, tuple(operands), choice, scalars, steps=len(task.keys))
        return self.end(open_, subtask)

    def window(self, task: tasks.Window) -> PipelineInfo:
        open_ = self.open(task.source)
        rows = open_.rows
        keys = {c.id: c for _, _, args, part, order in task.calls for c in (*args, *part, *(k for k, _, _ in order))}
        inputs = tuple(map(self.attribute, keys.values()))
        outputs = tuple(output for output, *_ in task.calls)
        operands = self.reads(open_, inputs, rows) + [Operand("sort words", RANDOM_WRITE, rows, 8.0, table=8.0 * rows)]
        operands += [Operand(a.name, RANDOM_READ, rows, a.width, table=rows * a.width) for a in inputs]
        operands += self.writes(outputs, rows, RANDOM_WRITE)
        orders = {(part, order) for _, _, _, part, order in task.calls}
        reason = f"{len(orders)} order{'s' if len(orders) > 1 else ''} for {len(task.calls)} columns"
        choice = Choice("sort", reason, 8 * rows)
        subtask = SubTask("window", task, rows, rows, inputs, tuple(operands), choice, steps=len(task.calls))
        return self.end(open_, subtask)

    def pairs(self, task: PairJoin) -> PipelineInfo:
        """All pairs that match, then what found no partner: the probe writes row numbers, columns are taken by them."""
        if isinstance(task.left, tasks.Pipe):
            below = self.complete(task.left)
            inputs = tuple(map(self.attribute, task.left.columns))
            rows = below.breaker.rows_out
            operands = [Operand(a.name, STREAMED_READ, rows, a.width) for a in inputs]
            open_ = _Open(
                SubTask("read", task.left, rows, rows, inputs, tuple(operands), reads=(below.number,)), (below.number,)
            )
        else:
            open_ = self.open(task.left)
        share = 1.0 if task.probe.estimate is None else task.probe.estimate / max(open_.rows, 1.0)
        self.probe(open_, task.probe, self.build(task.probe, open_.source_rows), share)
        rows = _rows(task)
        inputs = tuple(map(self.attribute, task.columns))
        taken = [Operand(a.name, RANDOM_READ, rows, a.width, table=rows * a.width) for a in inputs]
        subtask = SubTask("pairs", task, open_.rows, rows, inputs, tuple(taken + self.writes(task.columns, rows)))
        return self.end(open_, subtask)


def _compared(term: Expr) -> Column | None:
    """The column that a term compares with a constant."""
    if not isinstance(term, Call) or term.name not in ("eq", "lt", "le", "gt", "ge"):
        return None
    column, constant = sorted(term.args, key=lambda e: not isinstance(e, Column))
    return column if isinstance(column, Column) and not columns_of(constant) and not column.type.is_string else None


def _rows(task: Task) -> float:
    return 1.0 if task.estimate is None else float(task.estimate)


def _sorted(task: Aggregate, open_: _Open) -> bool:
    """Whether the one group key is a sorted column of the pipeline's own table."""
    source = open_.subtasks[0].item
    if len(task.groups) != 1 or not isinstance(source, tasks.Scan):
        return False
    group = task.groups[0] if task.node is None else task.node.groups[0][1]
    for column, name in zip(source.columns, source.names):
        if isinstance(group, Column) and column.id == group.id:
            stats = source.table.stats(name)
            return bool(stats is not None and stats.sorted)
    return False
