"""A plan while it runs: where its pipelines go, decided before it starts and again where rows turn out otherwise.

The executor asks ``Scheduler.where`` when a pipeline's inputs are there. By then the pipelines before it have been
counted: if one gave far more or fewer rows than were expected, the features of those that are left are corrected and
these are placed anew. After the run ``finish`` tells the model what the pipelines took. On a simulated board, where
the real kernels gave the answer on the CPU, it has the simulator run the placed plan over the rows that were really
seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from finequery.jetson.simulator import Machine, Timeline
from finequery.operators.context import CPU, Context, Placement
from finequery.operators.primitives.price_layout import SUBTASK
from finequery.perfmodel.batch import Batch
from finequery.perfmodel.features import Features
from finequery.perfmodel.model import Model, Variant
from finequery.planner import observed as seen
from finequery.planner.candidates import Asked
from finequery.planner.features import features, observed
from finequery.planner.placement import Schedule, place
from finequery.planner.stages import Part, Site, stages
from finequery.planner.subtasks import PipelineInfo

#: How far rows may be from what was expected before what is left is placed anew.
FAR = 2.0
#: Rows, keys or bytes below which nothing is worth that.
FEW = 10_000.0
#: How far what a run has counted may be from what a plan was placed by, before the next run places it again: prices are
#: less certain than that.
NEAR = 0.05
_LEAST = np.array([FEW * (name in ("rows", "rows_out", "table_bytes", "distinct", "groups")) for name in SUBTASK])


#: Structures whose size is that of the range of keys.
BY_KEY = frozenset(["map", "bits", "rows", "rank", "dense"])


class Ended(NamedTuple):
    """What a pipeline gave, as factors to what was expected of it: its rows, the bytes of the table that it built; and
    the structure of that ("": as expected)."""

    rows: float = 1.0
    table: float = 1.0
    algorithm: str = ""


@dataclass(slots=True)
class Simulated:
    """A placed plan on a simulated board. ``owners``: for each stage of the timeline, the place of its pipeline."""

    timeline: Timeline
    owners: list[int]
    names: list[str]
    parts: list[Part]
    site: Site

    def span(self, place: int) -> tuple[float, float]:
        """Start and end of a pipeline, in seconds."""
        spans = [s for s in self.timeline.spans if self.owners[s.stage] == place]
        return min((s.start for s in spans), default=0.0), max((s.end for s in spans), default=0.0)

    def seconds(self, place: int) -> float:
        """Elapsed time of a pipeline."""
        start, end = self.span(place)
        return end - start

    def nbytes(self, place: int) -> float:
        """Its traffic of the memories."""
        return sum(s.nbytes for s in self.timeline.spans if self.owners[s.stage] == place)

    def joules(self, place: int) -> float:
        """Its energy, without the machine's rest."""
        return sum(s.joules for s in self.timeline.spans if self.owners[s.stage] == place)


def simulate(
    parts: Sequence[Part], placements: Sequence[Placement], site: Site, *, seed: int | None = None, noise: float = 0.0
) -> Simulated:
    """A placed plan on a board, by its simulator."""
    made, owners = stages(parts, placements, site)
    machine = Machine(site.board, seed=seed, noise=noise, load=site.load)
    return Simulated(machine.run(made), owners, [s.name for s in made], list(parts), site)


@dataclass(eq=False)
class Scheduler:
    """Placement of one plan in one run."""

    pipelines: list[PipelineInfo]
    site: Site
    model: Model
    asked: Asked
    simulated: bool = False  # the site is no machine that is there
    schedule: Schedule = field(init=False)
    known: bool = False  # by rows that a run has counted, not by estimates
    anew: int = 0  # times that what was left was placed anew
    spent: float = 0.0  # seconds, in placing and in looking at what was counted
    run: Simulated | None = None

    def __post_init__(self) -> None:
        self.parts = [Part(info, tuple(map(features, info.subtasks))) for info in self.pipelines]
        self._lock = threading.Lock()
        self._place_of = {id(item): n for n, info in enumerate(self.pipelines) for item in info.runs}
        self._placed: list[Part] = []  # what ``schedule`` was made for
        self._looked: list[Part] | None = None  # what was last compared with that
        self._replaced = False  # a part of it for other rows, while a query ran
        self._counts: Any = None  # of the last run
        self._ran: set[int] = set()  # numbers of the pipelines that it ran
        self._simulated: tuple[Any, Simulated] | None = None  # that run on the board, and what it was made of
        self.begin()

    def begin(self, site: Site | None = None, model: Model | None = None) -> None:
        """A run begins. What the last one counted is what this one expects. ``site`` and ``model``: where it runs now,
        if the machine's clocks or load are not those that it was placed for."""
        if site is not None and model is not None and site != self.site:
            self.site, self.model, self._placed, self._looked = site, model, [], None
        self._counted: set[int] = set()  # numbers of the pipelines whose rows were looked at
        self.anew, self.spent, self.run = 0, 0.0, None
        begin = time.perf_counter()
        if self.parts is not self._looked and (self._replaced or not near(self.parts, self._placed)):
            self.schedule = place(self.parts, self.site, self.model, self.asked)
            self._placed, self._replaced = self.parts, False
        self._looked = self.parts
        self.spent = time.perf_counter() - begin

    def where(self, item: Any, context: Context) -> Placement:
        """Where a task, or the build of a Probe, is to run, by what is known now."""
        number = self._place_of.get(id(item))
        if number is None:
            return CPU
        begin = time.perf_counter()
        with self._lock:
            if self._news(number, context):
                self._again(context)
            self.spent += time.perf_counter() - begin
            return self.schedule.placed[number].chosen.placement

    def _news(self, place: int, context: Context) -> bool:
        """Whether one of those that a pipeline reads has ended with other rows than expected, and nobody saw it yet."""
        surprise = False
        for number in self.parts[place].info.after:
            if number not in self._counted and (real := self._real(number, context)) is not None:
                self._counted.add(number)
                surprise |= far(self.parts[number - 1].rows_given, real)
        return surprise

    def _real(self, number: int, context: Context) -> int | None:
        """Rows that a pipeline gave; None: it has not ended, or nobody counted them."""
        breaker = self.parts[number - 1].info.breaker
        record = context.measured.get(id(breaker.item))
        if record is None or not record.seconds:
            return None
        return seen.real_rows(breaker, self.pipelines, context)

    def _again(self, context: Context) -> None:
        """Place what has not begun, with the rows that were counted."""
        gave = {part.info.number: self._real(part.info.number, context) for part in self.parts}
        self._counted.update(number for number, real in gave.items() if real is not None)
        ended = {
            part.info.number: self._ended(part, real, context)
            for part in self.parts
            if (real := gave[part.info.number]) is not None
        }
        parts = known(self.parts, ended)
        fresh = place(parts, self.site, self.model, self.asked)
        kept = [
            old if old.part.info.number in self._counted or id(old.part.info.breaker.item) in context.measured else new
            for old, new in zip(self.schedule.placed, fresh.placed)
        ]
        self.schedule = replace(fresh, placed=kept)
        self.anew += 1
        self._replaced = True

    def _ended(self, part: Part, real: int, context: Context) -> Ended:
        """What came out of a pipeline that gave ``real`` rows."""
        breaker = part.info.breaker
        factor = (real + 1.0) / (part.rows_given + 1.0)
        planned, built = breaker.choice, seen.chosen(breaker, context)
        if breaker.kind != "build" or planned is None or built is None or not planned.nbytes:
            return Ended(factor, 1.0 if planned is not None and planned.name in BY_KEY else factor)
        return Ended(factor, built.nbytes / planned.nbytes, built.name)

    def finish(self, context: Context) -> None:
        """After the run: tell the model what was measured, or run it on the simulated board. What has counted the same
        as the last run is not looked at again."""
        begin = time.perf_counter()
        counts = seen.counts(self.pipelines, context)
        if counts != self._counts:
            found = {o.pipeline.number: o for o in observed(self.pipelines, context)}
            self.parts = [
                Part(o.pipeline, o.features) if (o := found.get(part.info.number)) is not None else part
                for part in self.parts
            ]
            self.known, self._counts, self._ran, self._simulated = True, counts, set(found), None
        self.spent += time.perf_counter() - begin
        if self.simulated:
            key = self.site, [p.chosen.placement for p in self.schedule.placed]
            if self._simulated is None or self._simulated[0] != key:
                self._simulated = key, simulate(self.parts, key[1], self.site)
            self.run = self._simulated[1]
            return
        if self.site.board.gpu is None:  # nothing was chosen by its prices
            return
        runs = []
        for item, part in zip(self.schedule.placed, self.parts):
            device, total = item.chosen.placement.device, seen.seconds(part.info, context)
            if part.info.number not in self._ran or device not in ("cpu", "gpu") or total <= 0.0:
                continue
            load = self.site.load.get(device, 0.0)
            variant = Variant(device, self.site.threads if device == "cpu" else 1, load=load)
            runs.append((part.features, variant, total))
        self.model.observe(runs)


def near(parts: Sequence[Part], placed: Sequence[Part]) -> bool:
    """Whether a plan is so like the one that was placed that it would be placed the same: the same sub-tasks in the
    same order, and no number far from its own."""
    found = [[f for part in plan for f in part.features] for plan in (parts, placed)]
    if len(parts) != len(placed) or [f.model for f in found[0]] != [f.model for f in found[1]]:
        return False
    now, before = (Batch(features).table for features in found)
    return bool((np.abs(now - before) <= NEAR * np.maximum(np.maximum(now, before), _LEAST)).all())


def far(expected: float, real: float) -> bool:
    """Whether a number of rows is so far from what was expected that what is left is to be placed anew."""
    return max(real, expected) > FEW and not 1.0 / FAR <= (real + 1.0) / (expected + 1.0) <= FAR


def known(parts: Sequence[Part], ended: Mapping[int, Ended]) -> list[Part]:
    """The pipelines of a plan of which some have ended: by their number, what came out of them."""
    found: dict[int, Ended] = {}
    made = []
    for part in parts:
        number, before = part.info.number, part.features[-1]
        if number in ended:
            found[number] = ended[number]
            made.append(part)
            continue
        made.append(Part(part.info, corrected(part, found)))
        table = made[-1].features[-1].table_bytes / before.table_bytes if before.table_bytes else 1.0
        found[number] = Ended(made[-1].rows_given / max(part.rows_given, 1.0), table)
    return made


def corrected(part: Part, ended: Mapping[int, Ended]) -> tuple[Features, ...]:
    """Features of a pipeline that has not begun, by what the pipelines it reads turned out to give. A look-up with a
    share of the keys that were expected lets as large a share of the rows through, in the table that was built. What is
    an array by key, however many keys there are, stays as it is."""
    rows, made = 1.0, []
    for subtask, f in zip(part.info.subtasks, part.features):
        read, looked_up = 1.0, Ended()
        for number in subtask.reads:
            if number in ended:
                looked_up = ended[number]
                read *= looked_up.rows
        before = rows
        if subtask.kind in ("read", "union", "probe"):
            rows *= read
        table = 1.0 if f.algorithm.partition(":")[0] in BY_KEY else rows
        groups = min(f.groups, f.rows * before) if f.groups else 0.0
        made.append(
            replace(
                f,
                algorithm=looked_up.algorithm or f.algorithm if subtask.kind == "probe" else f.algorithm,
                rows=f.rows * before,
                rows_out=min(f.rows_out * rows, groups) if groups else f.rows_out * rows,
                table_bytes=f.table_bytes * (looked_up.table if subtask.kind == "probe" else table),
                groups=groups,
                distinct=min(f.distinct, f.rows * before),
            )
        )
    return tuple(made)
