"""The best of all plans by the simulator, to judge the chosen one by.

On an integrated board pipelines that run one after another have nothing to do with each other but for one thing: a
table that the CPU built costs the GPU cache maintenance where it is looked up in. So the time of a plan is a sum over
its pipelines, each depending on its own placement and on where the tables it reads were built, and the least sum over
*all* assignments of devices to results is the exact minimum over all sequential plans, without simulating each. Plans
whose branches run beside each other, and boards with a discrete GPU, where copies overlap with what runs, are searched
by coordinate descent from several starts: the best sequential plan, with all its branches beside each other and with
none, the chosen ones, CPU only, and GPU only (with a discrete GPU the better of these two).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from experiments_plans import Kept, Plan

from finequery.operators.context import CPU, GPU, Placement
from finequery.planner.candidates import SHARES
from finequery.planner.scheduler import simulate
from finequery.planner.stages import BATCHES, Part, Site, end_device

#: Steps of the ratio around the best one of the planner's grid, and batches that are tried.
FINE_SHARES = tuple(n / 50 for n in range(-4, 5) if n)
FINE_BATCHES = (4, 8, 16, 32)
#: Pipelines up to which all assignments of devices are gone through.
MOST_PIPELINES = 16
#: Rounds of coordinate descent.
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Best:
    """The best plan that was found. ``plans``: how many there are without branches beside each other; ``exact``: all
    those were covered."""

    seconds: float
    placements: list[Placement]
    plans: float
    exact: bool


def options(plan: Plan, number: int, fine: bool) -> list[Placement]:
    """All ways to run a pipeline: single devices, shares of a grid, and cuts into phases in batches."""
    part = plan.true[number]
    if plan.reasons.get(part.info.number):
        return [CPU]
    found = [CPU, GPU, *(Placement("both", share) for share in SHARES)]
    for cut, first in itertools.product(plan.cuts.get(part.info.number, ()), ("cpu", "gpu")):
        for batches in FINE_BATCHES if fine else (BATCHES,):
            found.append(Placement("phases", cut=cut, first=first, batch=max(1, int(part.rows / batches))))
    return found


def seconds(parts: Sequence[Part], placements: Sequence[Placement], site: Site) -> float:
    """What a placed plan takes in the simulator."""
    return simulate(parts, placements, site).timeline.seconds


def best(plan: Plan, site: Site, starts: Iterable[Sequence[Placement]] = ()) -> Best:
    """The best plan, at least as good as the best of ``starts``."""
    exact = not site.board.discrete and len(plan.true) <= MOST_PIPELINES
    ways = [options(plan, number, exact) for number in range(len(plan.true))]
    count = math.prod(float(len(w)) for w in ways)
    begin = [list(s) for s in starts]
    singles = [[device if device in way else CPU for way in ways] for device in (CPU, GPU)]
    begin += singles if exact else [min(singles, key=lambda s: seconds(plan.true, s, site))]
    if exact:
        found = _sequential(plan, site, ways)
        begin = [found, [replace(p, along=True) for p in found], *begin]
    judged: dict[tuple[Placement, ...], float] = {}
    for start in begin:
        _descent(plan, site, start, [] if exact else ways, judged)
    winner = min(judged, key=judged.__getitem__)
    return Best(judged[winner], list(winner), count, exact)


# --- sequential plans, exactly ----------------------------------------------------------------------------------------


def _sequential(plan: Plan, site: Site, ways: list[list[Placement]]) -> list[Placement]:
    """The best sequential plan on an integrated board."""
    parts = plan.true
    place_of = {part.info.number: place for place, part in enumerate(parts)}
    count = len(parts)
    ends = (np.arange(1 << count)[:, None] >> np.arange(count)) & 1  # 1: the result is the GPU's
    total = np.zeros(1 << count)
    tables = []
    for place, part in enumerate(parts):
        reads = [place_of[n] for n in part.info.after if n in place_of]
        tables.append(_Table(part, ways[place], site, [parts[r] for r in reads], reads))
        total += tables[-1].seconds(ends, place)
    winner = ends[int(np.argmin(total))]
    return [table.placement(winner, place) for place, table in enumerate(tables)]


class _Table:
    """Seconds of a pipeline: on one device by which of its reads the GPU has; else the cheapest by its result's
    device (0: the CPU has it, 1: the GPU)."""

    def __init__(self, part: Part, ways: list[Placement], site: Site, inputs: list[Part], reads: list[int]):
        self.reads = reads
        self.both: dict[int, tuple[float, Placement]] = {}
        self.single: dict[int, np.ndarray] = {}
        for way in ways:
            held = int(end_device(way) == "gpu")
            if way in (CPU, GPU):
                self.single[held] = np.array([_after(part, way, inputs, site, mask) for mask in range(1 << len(reads))])
            else:
                self._try(part, way, site)
        if 0 in self.both and self.both[0][1].device == "both":
            share = self.both[0][1].share
            for step in FINE_SHARES:
                if 0.0 < share + step < 1.0:
                    self._try(part, Placement("both", round(share + step, 3)), site)

    def _try(self, part: Part, way: Placement, site: Site) -> None:
        took, held = seconds([part], [way], site), int(end_device(way) == "gpu")
        if held not in self.both or took < self.both[held][0]:
            self.both[held] = took, way

    def _single(self, ends: np.ndarray, held: int) -> np.ndarray:
        mask = sum((ends[:, r] << bit for bit, r in enumerate(self.reads)), np.zeros(len(ends), np.intp))
        return self.single[held][mask] if held in self.single else np.full(len(ends), math.inf)

    def seconds(self, ends: np.ndarray, place: int) -> np.ndarray:
        """In each assignment (a row of ``ends``) of devices to results."""
        least = [np.minimum(self._single(ends, h), self.both[h][0] if h in self.both else math.inf) for h in (0, 1)]
        return np.where(ends[:, place] == 1, least[1], least[0])

    def placement(self, ends: np.ndarray, place: int) -> Placement:
        """How it runs in one assignment."""
        held = int(ends[place])
        alone = float(self._single(ends[None, :], held)[0])
        if held in self.both and self.both[held][0] < alone:
            return self.both[held][1]
        return GPU if held else CPU


def _after(part: Part, way: Placement, inputs: list[Part], site: Site, mask: int) -> float:
    """Seconds of a pipeline behind those it reads, of which the GPU has those in ``mask``."""
    idle = [_nothing(p) for p in inputs]
    held = [GPU if mask >> bit & 1 else CPU for bit in range(len(idle))]
    took = seconds([*idle, part], [*held, way], site)
    return took - (seconds(idle, held, site) if idle else 0.0)


def _nothing(part: Part) -> Part:
    """A stand-in for a pipeline that has run."""
    end = replace(part.features[-1], rows=0.0, rows_out=0.0, table_bytes=0.0, groups=0.0, distinct=0.0)
    info: Any = Kept(part.info.number, (), [part.info.source, part.info.breaker])
    return Part(info, (end,))


# --- coordinate descent -----------------------------------------------------------------------------------------------


def _descent(
    plan: Plan,
    site: Site,
    start: list[Placement],
    ways: list[list[Placement]],
    judged: dict[tuple[Placement, ...], float],
) -> None:
    """Change one pipeline at a time while that gains: its placement (where ``ways`` are given), and whether it runs
    beside the one before it."""
    current = list(start)

    def judge(placements: list[Placement]) -> float:
        key = tuple(placements)
        if key not in judged:
            judged[key] = seconds(plan.true, placements, site)
        return judged[key]

    least = judge(current)
    for _ in range(ROUNDS):
        before = least
        for place, part in enumerate(plan.true):
            others = list(ways[place]) if ways else []
            if place and plan.true[place - 1].info.number not in part.info.after:
                singles = [
                    replace(w, along=True) for w in (CPU, GPU) if w == CPU or not plan.reasons.get(part.info.number)
                ]
                others += [*singles, replace(current[place], along=not current[place].along)]
                others += [replace(w, along=False) for w in (CPU, GPU) if w in singles] if not ways else []
            for other in others:
                trial = [*current[:place], other, *current[place + 1 :]]
                took = judge(trial)
                if took < least * (1 - 1e-9):
                    current, least = trial, took
        if least > before * (1 - 1e-6):
            break
