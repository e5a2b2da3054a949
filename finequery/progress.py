"""How far running statements are.

Nothing is counted for it: pipelines count their morsels to share them out, and tasks are measured anyway. Who looks
(``Connection.progress``, the bar, the file that ``finequery top`` reads) weighs pipelines by what the performance model
expects of their sub-tasks, corrected by what those that are through really took.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finequery.operators.watch import Watch

if TYPE_CHECKING:
    from finequery.operators.context import Context, Measured
    from finequery.plan_cache import Plan
    from finequery.planner.subtasks import PipelineInfo, SubTask

#: Seconds a value that reading and encoding a column of a file takes, roughly: only for how bars are divided.
LOAD = 4e-9
#: What a breaker that is at work is thought to have done at the most: nobody counts inside of it.
MOST = 0.95
#: Seconds between two looks; the seconds a statement has run when it is published and drawn; and those without any
#: statement after which nobody looks any more until the next one begins.
LOOK, PUBLISHED, DRAWN, AWAKE = 0.1, 0.5, 1.0, 2.0
#: Sub-tasks that end a pipeline and run as tasks of their own, when its rows are there.
_APART = frozenset(["build", "sort", "top-k", "window", "limit"])


@dataclass(frozen=True, slots=True)
class PipelineProgress:
    """A pipeline of the query: what it does, where it runs ("" before it begins), rows of its source done and in all
    (by estimate, before it begins), and the share of its work that is done."""

    number: int
    name: str
    device: str
    done_rows: int
    rows: int
    done: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a statement is. ``done``: share from 0 to 1; ``remaining``: seconds that are left; both None where nobody
    can say. ``doing``: what runs now, in words."""

    text: str
    seconds: float
    done: float | None
    remaining: float | None
    doing: str
    pipelines: tuple[PipelineProgress, ...] = ()


class _Look:
    """The pipelines of one run with their prices, made when somebody looks for the first time."""

    __slots__ = ("best", "context", "expected", "loads", "pipelines")

    def __init__(self, settings: Any, plan: Plan, context: Context):
        from finequery import scheduling

        self.context = context
        self.pipelines, self.expected = scheduling.expected(settings, plan, context)
        self.loads = [_load(info.source) for info in self.pipelines]
        self.best = 0.0  # the bar never goes back


def of_session(session: Any) -> Progress | None:
    """The progress of what a session runs; None where nothing runs."""
    running = list(session.running)
    return of_watch(running[0]) if running else None


def of_watch(watch: Watch) -> Progress:
    """The progress of a statement."""
    seconds, plan, context, stage = time.monotonic() - watch.begin, watch.plan, watch.context, watch.stage
    if plan is None or context is None:
        if stage is None:
            return Progress(watch.text, seconds, None, None, "planning")
        return Progress(watch.text, seconds, stage.share, _rest(seconds, stage.share), stage.label)
    look = watch.look
    if look is None or look.context is not context:
        look = watch.look = _priced(watch, plan, context)
        if look is None:
            return Progress(watch.text, seconds, None, None, stage.label if stage is not None else "")
    made, left = _pipelines(look, stage.share if stage is not None else 0.0)
    share = seconds / (seconds + left) if left or seconds else 1.0
    share = look.best = max(look.best, min(share, 1.0))
    if stage is not None:
        doing = stage.label
    else:
        doing = next((f"pipeline {p.number} of {len(made)}: {p.name}" for p in made if p.device and p.done < 1.0), "")
    return Progress(watch.text, seconds, share, _rest(seconds, share), doing, tuple(made))


def _priced(watch: Watch, plan: Plan, context: Context) -> _Look | None:
    """None where the next look may know more: kernels, which price, too, are not there yet (who looks does not compile
    them), or the plan changes while it runs (a join by pairs)."""
    from finequery.operators import native

    if native.loaded():
        with suppress(Exception):
            return _Look(watch.owner.settings, plan, context)
    return None


def _rest(seconds: float, share: float) -> float | None:
    """What is left, when so much took so long."""
    return seconds * (1.0 - share) / share if share > 0.01 and seconds > 0.2 else None


def _pipelines(look: _Look, loading: float) -> tuple[list[PipelineProgress], float]:
    """Every pipeline, and the seconds that are left. ``loading``: how far the columns are that are being read."""
    context, found = look.context, []
    taken = expected = own = others = 0.0  # of what is through: seconds, and those expected; what is left
    through = {info.number for info in look.pipelines if _through(info, context)}
    for info, prices, load in zip(look.pipelines, look.expected, look.loads):
        records = [r for item in info.runs if (r := context.measured.get(id(item))) is not None]
        total = sum(prices) + load
        if info.number in through:
            share = 1.0
            taken += sum(r.seconds for r in records)
            expected += total
        elif records and through.issuperset(info.after):
            share = _share(info, prices, load, records, context, loading)
            spent = max(time.perf_counter() - min(r.begin for r in records), 0.0)
            taken += spent
            expected += share * total
            # what it has taken itself says more of what is left of it than the model
            own += spent * (1.0 - share) / share if share > 0.05 else total * (1.0 - share)
        else:
            share = 0.0
            others += total
        rows = int(records[0].rows_out or info.rows) if records else int(info.rows)
        done = rows if share == 1.0 else min(int(_taken(records) * rows), rows)
        begun = share > 0.0 or any(r.jobs or r.seconds for r in records)
        device = next((r.device for r in records if r.device), "cpu") if begun else ""
        found.append(PipelineProgress(info.number, words(info), device, done, rows, share))
    factor = min(max(taken / expected, 0.1), 10.0) if expected > 0.0 and taken > 0.05 else 1.0
    return found, own + others * factor


def _through(info: PipelineInfo, context: Context) -> bool:
    """Whether a pipeline has given its result."""
    record = context.measured.get(id(info.breaker.item))
    if record is None:
        return info.source.kind == "values" and info.breaker.kind == "materialize"
    return record.seconds > 0.0 or (info.breaker.kind == "limit" and record.rows_in > 0)


def _share(
    info: PipelineInfo,
    prices: Sequence[float],
    load: float,
    records: Sequence[Measured],
    context: Context,
    loading: float,
) -> float:
    """The share of a running pipeline's work that is done: of reading its columns, of its program's morsels, and of
    what its breaker does by itself."""
    total = sum(prices) + load
    if total <= 0.0:
        return 0.0
    record = context.measured.get(id(info.breaker.item))
    apart = prices[-1] if info.breaker.kind in _APART and info.breaker.item is not info.source.item else 0.0
    first = context.measured.get(id(info.source.item))
    read = 1.0 if first is None or first.seconds else loading
    done = load * read + (total - load - apart) * max(_taken(records), 0.0)
    before = [r for r in records if r is not record]
    if apart and record is not None and all(r.seconds for r in before):  # all before it is through
        begin = max((r.begin + r.seconds for r in before), default=record.begin)
        done = total - apart + apart * min((time.perf_counter() - begin) / apart, MOST)
    return min(done / total, 0.99)


def _taken(records: Sequence[Measured]) -> float:
    """The share of the morsels of their programs that workers have taken; of a scan in batches, of its batches."""
    taken = total = 0
    for record in records:
        if record.streamed is not None:
            return max(record.streamed.read - 0.5, 0.0) / max(record.streamed.batches, 1)
        for words, first in list(record.jobs):
            end = int(words[15])
            taken += min(int(words[0]), end) - first
            total += end - first
    return taken / total if total else 0.0


def _load(source: SubTask) -> float:
    """Seconds that reading the columns of a pipeline's source may take: of those that no query has read yet."""
    table, names = getattr(source.item, "table", None), getattr(source.item, "names", ())
    if source.kind != "scan" or table is None:
        return 0.0
    return LOAD * source.rows_out * sum(table.encoded(name) is None for name in names)


def words(info: PipelineInfo) -> str:
    """A pipeline in words."""
    table = getattr(getattr(info.source.item, "table", None), "name", "")
    kinds = [f"{info.source.kind} {table}".strip(), *(s.kind for s in info.subtasks[1:])]
    return ", ".join(dict.fromkeys(kinds))


# --- who looks -------------------------------------------------------------------------------------------------------


class _Watcher:
    """A thread that looks at what runs in this process for longer, to draw and publish it. It sleeps while nothing
    runs: beginning a statement costs a dictionary entry, and waking it once after a pause."""

    def __init__(self) -> None:
        self.running: dict[int, Watch] = {}
        self.screen = threading.Lock()  # held while a bar is drawn or taken away
        self._bell = _thread.allocate_lock()
        self._bell.acquire()
        self._asleep = False
        self._started = threading.Lock()
        self._thread: threading.Thread | None = None

    def enter(self, watch: Watch) -> None:
        """A statement begins."""
        self.running[id(watch)] = watch
        if self._asleep:
            self._wake()
        elif self._thread is None:
            self._start()

    def leave(self, watch: Watch) -> None:
        """It has ended: nothing of it stays on the screen."""
        self.running.pop(id(watch), None)
        if watch.drawn or watch.published:
            self._tidy(watch)

    def _tidy(self, watch: Watch) -> None:
        from finequery import bar, published

        with self.screen:
            if watch.drawn:
                bar.erase()
            if watch.published and not any(other.published for other in list(self.running.values())):
                published.withdraw()

    def _start(self) -> None:
        with self._started:
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="finequery-watch", daemon=True)
                self._thread.start()

    def _wake(self) -> None:
        self._asleep = False
        with suppress(RuntimeError):  # another thread was faster
            self._bell.release()

    def _look(self) -> None:
        idle = 0.0
        while True:
            time.sleep(LOOK)
            idle = 0.0 if self.running else idle + LOOK
            if idle >= AWAKE:
                self._asleep = True
                if not self.running:  # else a statement began meanwhile, and may not have seen that this sleeps
                    self._bell.acquire()
                self._asleep, idle = False, 0.0
                continue
            if self.running:
                with suppress(Exception):  # looking never hurts what runs
                    self._see()

    def _see(self) -> None:
        now = time.monotonic()
        running = sorted(self.running.values(), key=lambda w: w.begin)
        long = [w for w in running if now - w.begin >= PUBLISHED]
        if not long:
            return
        from finequery import bar, published
        from finequery.operators import native

        first, due = long[0], published.due()
        # while kernels are compiled, that draws its own line
        draws = now - first.begin >= DRAWN and native.loaded() and bar.wanted(first.owner.settings["progress"])
        if not due and not draws:
            return
        seen = {id(w): of_watch(w) for w in long}  # may take long: nobody who ends waits for it
        with self.screen:
            first.drawn |= draws  # before it is looked for: if it ends from here on, it waits until its bar is gone
            there = [w for w in long if id(w) in self.running]
            if due and there:
                published.publish([seen[id(w)] for w in there])
                for w in there:
                    w.published = True
            if draws and first in there:
                bar.draw(seen[id(first)])
        for watch in long:  # one that ended meanwhile may not have seen that there was something to tidy up
            if id(watch) not in self.running:
                self._tidy(watch)


_watcher = _Watcher()


def _forget() -> None:
    """In a child process after a fork: the thread is the parent's, and so is what runs."""
    global _watcher
    _watcher = _Watcher()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def enter(watch: Watch) -> None:
    """A statement begins."""
    _watcher.enter(watch)


def leave(watch: Watch) -> None:
    """A statement has ended."""
    _watcher.leave(watch)
