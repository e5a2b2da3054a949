"""EXPLAIN and EXPLAIN ANALYZE: a plan's pipelines and sub-tasks as text of at most ``WIDTH`` columns.

A pipeline has a header (number, device, the pipelines before it) and a line for each sub-task: operator, what it does,
rows expected. Under it stands the algorithm with its reason. After a run there are also real rows, time and share,
bytes, morsels skipped, threads, the algorithm chosen, and whether the program was compiled or kept from an earlier run;
under ``SET profile = true`` the time of each sub-task.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from finequery.jetson import memory
from finequery.operators import tasks
from finequery.operators.context import Context
from finequery.operators.executor import execute
from finequery.operators.expr import Column, Expr
from finequery.operators.steps import Project
from finequery.planner import observed
from finequery.planner.display import Printer, frame_text
from finequery.planner.prices import interval, ms, placed_text, prices, size, wrapped
from finequery.planner.scheduler import Scheduler, Simulated
from finequery.planner.subtasks import RANDOM_READ, RANDOM_WRITE, PipelineInfo, SubTask, split
from finequery.planner.timeline import of_simulation

#: Columns of the text, and of its parts.
WIDTH = 100
OPERATOR, ROWS = 12, 13
#: Lines that a long predicate may take.
DETAIL_LINES = 4


def explain(plan: Any, context: Context, analyze: bool) -> str:
    """The text for a plan (its ``root`` task, and ``planning`` seconds if it has them); with ``analyze`` it is run."""
    scheduler = context.scheduler
    pipelines = scheduler.pipelines if isinstance(scheduler, Scheduler) else split(plan.root)
    if not analyze:
        report = Report(pipelines, context)
        if context.gpu is not None:
            from finequery.operators.cuda import support

            report.reasons = support.reasons(plan.root, context)
        return report.text()
    begin = time.perf_counter()
    frame = execute(plan.root, context)
    seconds = time.perf_counter() - begin
    if isinstance(context.scheduler, Scheduler):
        context.scheduler.finish(context)
        pipelines = context.scheduler.pipelines
    return Report(pipelines, context, seconds, frame.length, getattr(plan, "planning", 0.0)).text()


class Report:
    """The text of one plan; ``seconds`` is None where it was not run."""

    def __init__(
        self,
        pipelines: list[PipelineInfo],
        context: Context,
        seconds: float | None = None,
        rows: int = 0,
        planning: float = 0.0,
    ):
        self.pipelines = pipelines
        self.context = context
        self.seconds = seconds
        self.rows = rows
        self.planning = planning
        self.names = Names(pipelines, context.parameters)
        #: Why parts of the plan have no form on the GPU, by id of the task (``operators.cuda.support``).
        self.reasons: Mapping[int, list[Any]] = {}
        self.scheduler = context.scheduler if isinstance(context.scheduler, Scheduler) else None
        self.simulated = self.scheduler.run if self.scheduler is not None else None
        self.numbers = {id(s.item): p.number for p in pipelines for s in p.subtasks if s is p.breaker}

    @property
    def ran(self) -> bool:
        return self.seconds is not None

    @property
    def detail_width(self) -> int:
        return WIDTH - 3 - OPERATOR - ROWS * len(self.heads)

    @property
    def heads(self) -> list[str]:
        """What the numbers of a sub-task are."""
        return ["expected", *(["rows"] if self.ran else []), *(["time"] if self.ran and self.context.profile else [])]

    def text(self) -> str:
        count, parts = len(self.pipelines), sum(len(p.subtasks) for p in self.pipelines)
        scheduler = self.scheduler
        threads = self.context.pool.threads if scheduler is None else scheduler.site.threads
        title = f"{_plural(count, 'pipeline')}, {_plural(parts, 'sub-task')}, {_plural(threads, 'thread')}"
        lines = [title.ljust(WIDTH - ROWS * len(self.heads)) + "".join(h.rjust(ROWS) for h in self.heads)]
        if scheduler is not None:
            lines.append(self.site(scheduler))
        for pipeline in self.pipelines:
            lines += ["", *self.pipeline(pipeline)]
        if self.simulated is not None and scheduler is not None:
            lines += ["", *self.outcome(self.simulated, scheduler)]
        elif self.seconds is not None:
            inside = sum(self.time(p) for p in self.pipelines)
            lines += [
                "",
                f"{_plural(self.rows, 'row')} in {ms(self.seconds)}: pipelines {ms(inside)}, between them "
                f"{ms(max(self.seconds - inside, 0.0))}. Planning {ms(self.planning)}.",
            ]
            if self.context.gpu is not None:
                moved = self.context.account.moved
                what = "the simulated GPU" if self.context.gpu.info.simulated else "the GPU"
                lines.append(f"{size(moved.to_device)} moved to {what}, {size(moved.to_host)} back.")
        return "\n".join(line.rstrip() for line in lines).replace("\xa0", " ")

    # --- a pipeline -----------------------------------------------------------------------------------------------

    def pipeline(self, pipeline: PipelineInfo) -> list[str]:
        device, reasons = self.placement(pipeline)
        if self.scheduler is not None:
            device = placed_text(self.scheduler, pipeline)
        elif self.context.gpu is not None and self.context.gpu.info.simulated:
            device = device.replace("gpu", "gpu simulated")
        head = f"Pipeline {pipeline.number} [{device}]"
        if pipeline.purpose:
            head += f" {pipeline.purpose}"
        if pipeline.after:
            head += f", after {', '.join(map(str, pipeline.after))}"
        right = ""
        if self.seconds is not None:
            spent = self.time(pipeline)
            whole = self.seconds if self.simulated is None else self.simulated.timeline.seconds
            right = f" {ms(spent)} {spent / max(whole, 1e-9):6.1%}"
        lines = [f"{head} ".ljust(WIDTH - len(right), "─") + right]
        if self.scheduler is not None:
            lines += [
                "│  " + part
                for part in prices(self.scheduler, pipeline, WIDTH - 3, self.time(pipeline) if self.ran else None)
            ]
        if self.ran and self.simulated is None:
            lines.append("│  " + self.run_line(pipeline))
        if (streaming := self.streaming(pipeline)) is not None:
            lines += ["│  " + part for part in wrapped(streaming, WIDTH - 3)]
        if reasons:
            lines += ["│  " + part for part in wrapped(f"on the CPU: {'; '.join(reasons)}", WIDTH - 3)]
        real: int | None = None
        times = observed.spent(pipeline, self.context) if self.ran else None
        for number, subtask in enumerate(pipeline.subtasks):
            last = subtask is pipeline.breaker
            if subtask.kind != "project":  # which changes no number of rows
                real = observed.real_rows(subtask, self.pipelines, self.context)
            took = None if times is None else times[number]
            lines += self.subtask(subtask, real, took, "└─ " if last else "├─ ", "   " if last else "│  ")
        return lines

    def placement(self, pipeline: PipelineInfo) -> tuple[str, list[str]]:
        """Where its programs ran, or are expected to, and all reasons why not everything is on the GPU that was asked
        for: those of the run, or those that the plan shows (``operators.cuda.support``)."""
        if self.context.gpu is None:
            return "cpu", []
        found: dict[str, None] = {}
        devices: set[str] = set()
        if self.ran:
            for record in observed.records(pipeline, self.context):
                devices |= set(record.device.split(" and ")) - {""}
                found.update(dict.fromkeys(record.departed))
            return " and ".join(sorted(devices)) or "cpu", list(found)
        for item in pipeline.runs:
            if self.context.where(item).device == "cpu":
                devices.add("cpu")
                continue
            reasons = self.reasons.get(id(item), [])
            found.update((r.text if r.certain else f"{r.text}, unless it can be tabulated", None) for r in reasons)
            if hasattr(item, "steps"):  # what a host function gives goes on in another program on the GPU
                devices.add("gpu")
            elif not isinstance(item, tasks.Limit):  # which the CPU does everywhere
                devices.add("cpu" if reasons else "gpu")
        return " and ".join(sorted(devices)) or "cpu", list(found)

    def site(self, scheduler: Scheduler) -> str:
        """What the plan was placed for, and by which model."""
        board, model = scheduler.site.board, scheduler.model.source.removeprefix("model ")
        busy = scheduler.site.load.get("gpu", 0.0)
        others = f"; others keep {busy:.0%} of the GPU busy" if busy else ""
        return f"{board.title}{', simulated' if scheduler.simulated else ''}{others}; model: {model}"

    def outcome(self, run: Simulated, scheduler: Scheduler) -> list[str]:
        """What a run on a simulated board took."""
        line, schedule = run.timeline, scheduler.schedule
        watts = line.joules / line.seconds if line.seconds else 0.0
        anew = f", {_plural(scheduler.anew, 'time')} anew" if scheduler.anew else ""
        moved = "all from caches"
        if line.memory_bytes:
            rate = line.memory_bytes / max(line.seconds, 1e-12) / 1e9
            moved = f"{size(line.memory_bytes)} at {rate:.1f} GB/s, {line.utilisation:.0%} of the peak"
        text = (
            f"{_plural(self.rows, 'row')} in {ms(line.seconds)} simulated, expected {interval(schedule.price)}; "
            f"{moved}; {line.joules * 1e3:.2f} mJ, {watts:.1f} W. Placing took "
            f"{ms(scheduler.spent)}{anew}. The answer was computed here in"
            f" {ms(self.seconds or 0.0)}."
        )
        return [*wrapped(text, WIDTH), "", *of_simulation(run).text(WIDTH).split("\n")]

    def time(self, pipeline: PipelineInfo) -> float:
        if self.simulated is not None:
            return self.simulated.seconds(pipeline.number - 1)
        return sum(r.seconds for r in observed.records(pipeline, self.context))

    def run_line(self, pipeline: PipelineInfo) -> str:
        programs = [r for r in observed.records(pipeline, self.context) if r.morsels or r.compiled]
        if not programs:
            return "no program"
        nbytes, morsels = sum(r.bytes for r in programs), sum(r.morsels for r in programs)
        seconds = sum(r.seconds - r.compile_seconds for r in programs)
        compiling = sum(r.compile_seconds for r in programs)
        parts = [f"{size(nbytes)} read"]
        if nbytes and seconds > 0:
            parts[0] += f" at {nbytes / seconds / 1e9:.2f} GB/s"
        parts.append(f"{sum(r.skipped for r in programs)} of {_plural(morsels, 'morsel')} skipped")
        parts.append(_plural(max(r.threads for r in programs), "thread"))
        compiled = any(r.compiled for r in programs)
        parts.append(f"program compiled in {ms(compiling)}" if compiled else "program kept from before")
        return " · ".join(parts)

    def streaming(self, pipeline: PipelineInfo) -> str | None:
        """How the rows of a scan that does not fit come, or came, in batches; None where it fits."""
        scan = pipeline.source.item
        if not isinstance(scan, tasks.Scan):
            return None
        if self.ran:
            record = self.context.measured.get(id(scan))
            done = None if record is None else record.streamed
            if done is None:
                return None
            parts = [f"streamed in {_plural(done.batches, 'batch', 'es')} of at most {size(done.largest)}"]
            parts += [f"{size(done.nbytes)} decoded", _left_out(done.skipped, done.groups)]
            return " · ".join(filter(None, parts))
        steps = next((task.steps for task in pipeline.runs if getattr(task, "steps", None)), ())
        found = scan.batches(self.context, steps, evict=False)
        if found is None:
            return None
        room = max((memory.limit() or 0) - memory.live(), 0)
        fits = found.largest <= room
        count = f"in {_plural(len(found.cut(room)), 'batch', 'es')}" if fits else "a row group is more than is left"
        parts = [f"streams {count}", f"{size(found.nbytes)} of columns, {size(room)} left of the memory_limit"]
        parts.append(_left_out(found.skipped, found.skipped + len(found.groups)))
        return " · ".join(filter(None, parts))

    # --- a sub-task -----------------------------------------------------------------------------------------------

    def subtask(self, subtask: SubTask, real: int | None, took: float | None, branch: str, below: str) -> list[str]:
        detail = wrapped(self.detail(subtask), self.detail_width - 1) or [""]
        if len(detail) > DETAIL_LINES:
            detail = detail[:DETAIL_LINES]
            detail[-1] = detail[-1][: self.detail_width - 3] + " …"
        rows = "~" * (subtask.kind not in ("scan", "values")) + f"{subtask.rows_out:,.0f}"
        numbers = rows.rjust(ROWS)
        if self.ran:
            numbers += ("" if real is None else f"{real:,}").rjust(ROWS)
        if self.ran and self.context.profile:
            numbers += ("" if took is None else ms(took)).rjust(ROWS)
        lines = [branch + subtask.kind.ljust(OPERATOR) + detail[0].ljust(self.detail_width) + numbers]
        lines += [below + " " * OPERATOR + part for part in detail[1:]]
        for part in wrapped(self.algorithm(subtask), WIDTH - 5 - OPERATOR):
            lines.append(below + " " * OPERATOR + "  " + part)
        return lines

    def algorithm(self, subtask: SubTask) -> str:
        """The algorithm expected or chosen, why, and its table; "" where there is nothing to choose."""
        choice = subtask.choice
        if choice is None or subtask.kind == "probe":
            return ""
        expected = choice.name
        if self.ran:
            choice = observed.chosen(subtask, self.context) or choice
        text = f"{choice.name}: {choice.reason}" if choice.reason else choice.name
        if choice.nbytes and subtask.kind in ("build", "aggregate"):
            text += f"; {size(choice.nbytes)}"
        touched = {o.access for o in subtask.operands}
        random = [p for p in (RANDOM_READ, RANDOM_WRITE) if p in touched]
        if random:
            text += ", random read/write" if len(random) == 2 else f", {random[0]}"
        if choice.name != expected:
            text += f" (expected {expected})"
        record = self.context.measured.get(id(subtask.item)) if self.ran else None
        if record is not None and subtask.kind != "aggregate":
            text += f", {ms(record.seconds)}"
        return text

    def detail(self, subtask: SubTask) -> str:
        item, names = subtask.item, self.names
        kind = subtask.kind
        if kind == "scan":
            alias = f" {item.alias}" if item.alias and item.alias != item.table.name else ""
            columns = ", ".join(f"{a.name} {a.encoding}".replace(" ", "\xa0") for a in subtask.inputs)  # wrapped whole
            return f"{item.table.name}{alias}" + (f": {columns}" if columns else "")
        if kind == "filter":
            text = names.expr(item.predicate)
            share = f"{subtask.selectivity:.2%}" if (subtask.selectivity or 0) < 0.01 else f"{subtask.selectivity:.0%}"
            return f"{text}  [{share}]"
        if kind == "project":
            made = [(c, e) for c, e in item.columns if not isinstance(e, Column)]
            return ", ".join(names.definition(c, e) for c, e in made)
        if kind in ("probe", "build"):
            return self.join(subtask)
        if kind == "aggregate":
            groups = ", ".join(map(names.column, item.groups))
            calls = ", ".join(names.aggregate_call(c) for c in item.calls)
            by = f"by {groups}" if groups else ""
            return f"{calls} {by}".strip() if calls else f"distinct {groups}"
        if kind in ("sort", "top-k"):
            keys = ", ".join(names.column(c) + " desc" * down + " nulls first" * first for c, down, first in item.keys)
            return keys + names.bounds(item.limit, item.offset)
        if kind == "limit":
            return names.bounds(item.limit, item.offset).strip()
        if kind == "window":
            return ", ".join(names.window_call(call) for call in item.calls)
        if kind in ("read", "union"):
            return f"{'pipelines' if len(subtask.reads) > 1 else 'pipeline'} {', '.join(map(str, subtask.reads))}"
        if kind == "pairs":
            return f"{item.kind} join: what found a partner, and what found none"
        if kind == "values":
            return _plural(len(item.rows), "row")
        return ", ".join(dict.fromkeys(names.column(c) for c in item.columns))

    def join(self, subtask: SubTask) -> str:
        step, names = subtask.item, self.names
        if subtask.kind == "build":
            keys = ", ".join(names.expr(right) for _, right in step.keys)
            return f"by {keys}" if keys else "all rows"
        terms = " and ".join(f"{names.expr(a)} = {names.expr(b)}" for a, b in step.keys)
        if step.condition is not None:
            terms += " if " * bool(terms) + names.expr(step.condition)
        aware = ", null aware" if step.null_aware else ", null safe" if step.null_safe else ""
        return f"{step.kind} pipeline {subtask.reads[0]}{aware}" + (f": {terms}" if terms else "")


class Names(Printer):
    """Names of columns: a table's by their names, with the alias where several scans have one; computed ones by
    their own names, else by the expression."""

    def __init__(self, pipelines: list[PipelineInfo], values: Mapping[int | str, Any]):
        super().__init__()
        self.values = values
        self.definitions: dict[int, Expr] = {}
        self.scalars: dict[int, int] = {}
        count: dict[str, set[int]] = {}
        scans = {id(s.item): s.item for p in pipelines for s in p.subtasks if s.kind == "scan"}
        for scan in scans.values():
            for name in scan.names:
                count.setdefault(name, set()).add(id(scan))
        for scan in scans.values():
            for column, name in zip(scan.columns, scan.names):
                prefix = f"{scan.alias or scan.table.name}." if len(count[name]) > 1 else ""
                self.names[column.id] = prefix + name
        for pipeline in pipelines:
            self.scalars[id(pipeline.breaker.item)] = pipeline.number
            for task in pipeline.runs:
                for step in getattr(task, "steps", ()):
                    for column, e in step.columns if isinstance(step, Project) else ():
                        self.definitions.setdefault(column.id, e)

    def column(self, column: Column) -> str:
        name = self.names.get(column.id)
        if name is None:
            defined = self.definitions.get(column.id)
            if isinstance(defined, Column) and defined.id != column.id:
                name = self.column(defined)
            elif column.name or defined is None:
                name = column.name or "column"
            else:
                name = self.expr(defined)
            self.names[column.id] = name
        return name

    def subplan(self, kind: str, plan: Any) -> str:
        number = self.scalars.get(id(getattr(plan, "task", None)))
        return "subquery" if number is None else f"pipeline {number}"

    def definition(self, column: Column, expr: Expr) -> str:
        """A computed column: its expression, and its own name if it has one."""
        text = self.expr(expr)
        return text if self.column(column) == text else f"{text} as {self.column(column)}"

    def aggregate_call(self, call: Any) -> str:
        argument = "*" if call.argument is None else self.column(call.argument)
        name = "count" if call.name == "count_star" else call.name
        return f"{name}({argument})" + ("" if call.filter is None else f" filter ({self.column(call.filter)})")

    def window_call(self, call: Any) -> str:
        _, over, args, partition, order = call
        name = over.name
        parts = [f"partition by {', '.join(map(self.column, partition))}"] if partition else []
        if order:
            keys = ", ".join(self.column(c) + " desc" * down + " nulls first" * first for c, down, first in order)
            parts.append(f"order by {keys}")
        parts += [frame_text(over)] if order or over.frame else []
        inner = "*" if name == "count_star" else ", ".join(map(self.column, args))
        return f"{'count' if name == 'count_star' else name}({inner}) over ({' '.join(filter(None, parts))})"


def _plural(count: int, noun: str, ending: str = "s") -> str:
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def _left_out(skipped: int, groups: int) -> str:
    return f"{skipped:,} of {_plural(groups, 'row group')} left out by their statistics" if skipped else ""
