"""The best of all plans by the simulator, to judge the chosen one by.

On an integrated board pipelines that run one after another have nothing to do with each other but for one thing: a
table that the CPU built costs the GPU cache maintenance where it is looked up in. So the time of a plan is a sum over
its pipelines, each depending on its own placement and on where the tables it reads were built, and the least sum over
*all* assignments of devices to results is the exact minimum over all sequential plans, without simulating each. Plans
whose branches run beside each other, and boards with a discrete GPU, where copies overlap with what runs, are searched
by coordinate descent from several starts: the best sequential plan, the chosen one, CPU only, and GPU only.
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
from finequery.planner.placement import SHARES
from finequery.planner.scheduler import simulate
from finequery.planner.stages import BATCHES, Part, Site, end_device

#: Shares of the rows and batches that are tried: more than the planner's grid has.
FINE_SHARES = tuple(n / 20 for n in range(1, 20))
FINE_BATCHES = (4, 8, 16, 32)
#: Pipelines up to which all assignments of devices are gone through.
MOST_PIPELINES = 16
#: Rounds of coordinate descent.
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Best:
    """The best plan that was found. ``plans``: how many there are without branches beside each other; ``exact``: all
    those were covered."""

    seconds: float
    placements: list[Placement]
    plans: float
    exact: bool


def options(plan: Plan, number: int, fine: bool = False) -> list[Placement]:
    """All ways to run a pipeline: single devices, shares of a grid, and cuts into phases in batches."""
    part = plan.true[number]
    if plan.reasons.get(part.info.number):
        return [CPU]
    found = [CPU, GPU, *(Placement("both", share) for share in (FINE_SHARES if fine else SHARES))]
    for cut, first in itertools.product(plan.cuts.get(part.info.number, ()), ("cpu", "gpu")):
        for batches in FINE_BATCHES if fine else (BATCHES,):
            found.append(Placement("phases", cut=cut, first=first, batch=max(1, int(part.rows / batches))))
    return found


def seconds(parts: Sequence[Part], placements: Sequence[Placement], site: Site) -> float:
    """What a placed plan takes in the simulator."""
    return simulate(parts, placements, site).timeline.seconds


def best(plan: Plan, site: Site, starts: Iterable[Sequence[Placement]] = (), fine: bool = False) -> Best:
    """The best plan."""
    ways = [options(plan, number, fine) for number in range(len(plan.true))]
    count = math.prod(float(len(w)) for w in ways)
    exact = not site.board.discrete and len(ways) <= MOST_PIPELINES
    begin = [list(s) for s in starts]
    for single in (CPU, GPU):
        begin.append([single if single in way else CPU for way in ways])
    if exact:
        found = _sequential(plan, site, ways)
        begin = [found, *begin[:1]]
    judged = {}
    for start in begin:
        found, took = _descent(plan, site, start, [] if exact else ways, judged)
        judged[tuple(found)] = took
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
        tables.append((_alternatives(part, ways[place], site, parts, reads), reads))
        total += _of(tables[-1], ends, place)[0]
    winner = ends[[int(np.argmin(total))]]
    return [_of(table, winner, place)[1] for place, table in enumerate(tables)]


#: By the result's device, the cheapest other than the GPU alone; and the GPU alone by which reads are the CPU's.
_Table = tuple[dict[int, tuple[float, Placement]], list[float]]


def _alternatives(part: Part, ways: list[Placement], site: Site, parts: Sequence[Part], reads: list[int]) -> _Table:
    cheapest: dict[int, tuple[float, Placement]] = {}
    for way in ways:
        if way != GPU:
            took, held = seconds([part], [way], site), int(end_device(way) == "gpu")
            if held not in cheapest or took < cheapest[held][0]:
                cheapest[held] = took, way
    alone = []
    if GPU in ways:
        for held in itertools.product((0, 1), repeat=len(reads)):
            idle = [_nothing(parts[r], device) for r, device in zip(reads, held)]
            alone.append(seconds([*idle, part], [GPU if h else CPU for h in held] + [GPU], site) - _spent(idle, held, site))
    return cheapest, alone


def _of(table: tuple[_Table, list[int]], ends: np.ndarray, place: int) -> tuple[np.ndarray, Placement]:
    """Seconds of a pipeline in each assignment, and for the first one how it runs."""
    (cheapest, alone), reads = table
    never = np.full(len(ends), math.inf)
    took = [np.full(len(ends), cheapest[h][0]) if h in cheapest else never for h in (0, 1)]
    gpu = never
    if alone:
        which = np.zeros(len(ends), np.intp)
        for r in reads:
            which = which * 2 + ends[:, r]
        gpu = np.array(alone)[which]
    on_gpu = np.minimum(took[1], gpu)
    result = np.where(ends[:, place] == 1, on_gpu, took[0])
    held = int(ends[0, place])
    if held and (held not in cheapest or gpu[0] <= took[1][0]):
        return result, GPU
    return result, cheapest[held][1] if held in cheapest else CPU


def _nothing(part: Part, device: int) -> Part:
    """A stand-in for a pipeline that has run."""
    end: Any = replace(part.features[-1], rows=0.0, rows_out=0.0, table_bytes=0.0, groups=0.0, distinct=0.0)
    return Part(Kept(part.info.number, (), [part.info.source, part.info.breaker]), (end,))


def _spent(idle: list[Part], held: tuple[int, ...], site: Site) -> float:
    """What the stand-ins take."""
    return seconds(idle, [GPU if h else CPU for h in held], site) if idle else 0.0


# --- coordinate descent -----------------------------------------------------------------------------------------------


def _descent(
    plan: Plan, site: Site, start: list[Placement], ways: list[list[Placement]], judged: dict[tuple[Placement, ...], float]
) -> tuple[list[Placement], float]:
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
                singles = [replace(w, along=True) for w in (CPU, GPU) if w == CPU or not plan.reasons.get(part.info.number)]
                others += [*singles, replace(current[place], along=not current[place].along)]
                others += [replace(w, along=False) for w in (CPU, GPU) if w in singles] if not ways else []
            for other in others:
                trial = [*current[:place], other, *current[place + 1 :]]
                took = judge(trial)
                if took < least * (1 - 1e-9):
                    current, least = trial, took
        if least > before * (1 - 1e-6):
            break
    return current, least
