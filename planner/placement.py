"""Placement: for every pipeline of a plan CPU, GPU or both, from the performance model's prices.

For each pipeline there are *candidates* (planner/candidates.py): one device alone, its rows shared out at a ratio of
a grid, or its steps cut into two phases that overlap over batches. The cheapest plan of them is searched by compiled
code (operators/primitives/placing.py): dynamic programming over the plan's DAG, then branches beside each other where
that gains. Everything on the CPU and everything on the GPU are always among the plans.

Uncertainty. A plan other than the best single device must be cheaper by ``GAIN`` and may not, at the worst end of its
interval, be worse than that device's worst by more than ``MARGIN``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from finequery.operators import native
from finequery.operators.context import Placement
from finequery.operators.primitives.price_layout import RULE, plan_scratch
from finequery.perfmodel.compose import Price
from finequery.perfmodel.model import Model
from finequery.planner.candidates import Asked, Candidate, Offers
from finequery.planner.stages import Part, Site

#: What a candidate that uses both devices has to gain on one device alone.
GAIN = 0.01
#: How far its worst may lie above the worst of one device alone.
MARGIN = 0.25
#: Share of the time that has to be off the longest chain of pipelines for a search for branches to be worth it.
LEAST_SLACK = 0.03
#: What a move of a pipeline beside others has to gain, as a share of the plan's time; rounds of moves, at most.
LEAST_GAIN, ROUNDS = 0.002, 2

Cost = Callable[[float, float], float]
#: What a plan costs, of its seconds and joules.
OBJECTIVES: dict[str, Cost] = {
    "latency": lambda seconds, joules: seconds,
    "energy": lambda seconds, joules: joules,
    "edp": lambda seconds, joules: seconds * joules,
}
_BETTER = {"latency": "faster", "energy": "thriftier", "edp": "better in energy by time"}


@dataclass(slots=True)
class Placed:
    """A pipeline of a placed plan. ``only``: why the GPU is no candidate."""

    part: Part
    place: int
    offers: Offers
    chosen: Candidate
    only: tuple[str, ...] = ()

    @property
    def candidates(self) -> list[Candidate]:
        """All of them, single devices first."""
        return self.offers.of(self.place)


@dataclass(slots=True)
class Schedule:
    """A placed plan. ``price``: the whole; ``alone``: of one device for everything, for as many as can do it."""

    placed: list[Placed]
    price: Price
    alone: dict[str, Price]
    source: str
    simulated: bool
    objective: str
    seconds: float = 0.0  # that placing took
    evaluated: int = 0  # prices of a sub-task in a variant that it took
    looked: int = 0  # plans whose branches run beside each other that were compared

    @property
    def placements(self) -> dict[int, Placement]:
        """By id of the tasks and Probes of each pipeline, for the executor."""
        return {id(item): p.chosen.placement for p in self.placed for item in p.part.info.runs}


def place(parts: Sequence[Part], site: Site, model: Model, asked: Asked) -> Schedule:
    """The cheapest plan by the model."""
    begin = time.perf_counter()
    offers = Offers(parts, site, model, asked)
    found = search(offers, asked.objective, "along" in asked.forms)
    placed = [
        Placed(part, n, offers, offers.candidate(n, *chosen), tuple(asked.reasons.get(part.info.number, ())))
        for n, (part, chosen) in enumerate(zip(parts, zip(found.chosen, found.along)))
    ]
    alone = {device: price for device, price in found.alone.items() if price.seconds < math.inf}
    made = Schedule(placed, found.price, alone, model.source, model.simulated, asked.objective)
    made.evaluated, made.looked = offers.evaluated, found.looked
    made.seconds = time.perf_counter() - begin
    return made


class Found(NamedTuple):
    """A plan: for each pipeline the place of its candidate among all, and whether it runs along; what it takes, what
    either device alone does (infinite seconds: it can't), and how many plans with branches were compared."""

    chosen: list[int]
    along: list[bool]
    price: Price
    alone: dict[str, Price]
    looked: int


def search(offers: Offers, objective: str = "latency", along: bool = True) -> Found:
    """The cheapest plan of all candidates. ``along``: branches may run beside each other."""
    count = len(offers.parts)
    if not count:
        return Found([], [], Price(), dict.fromkeys(("cpu", "gpu"), Price()), 0)
    chosen, beside = np.zeros((2, count), np.int64)
    rule = (list(OBJECTIVES).index(objective), GAIN, MARGIN, along, LEAST_SLACK, LEAST_GAIN, ROUNDS)
    looked, numbers = _run(offers, rule, chosen, beside)
    price, cpu, gpu = (Price(*row) for row in numbers)
    return Found(chosen.tolist(), beside.astype(bool).tolist(), price, {"cpu": cpu, "gpu": gpu}, looked)


def elapsed(offers: Offers, choice: Sequence[Candidate]) -> tuple[float, float]:
    """Seconds of a plan with branches beside each other, and of its pipelines one after another."""
    chosen, beside = np.array([[c.number for c in choice], [c.along for c in choice]], np.int64)
    _, numbers = _run(offers, (0.0,) * len(RULE), chosen, beside, given=True)
    return numbers[0][0], numbers[1][0]


def _run(
    offers: Offers, rule: Sequence[float], chosen: np.ndarray, along: np.ndarray, given: bool = False
) -> tuple[int, list[list[float]]]:
    """One call of the kernel ``choose_plan``."""
    place_of = {part.info.number: place for place, part in enumerate(offers.parts)}
    discrete = offers.discrete
    begin, reads, looked_up = [0], list[int](), list[float]()
    for part in offers.parts:
        for number in part.info.after:
            if number in place_of:
                read = place_of[number]
                reads.append(read)
                looked_up.append(0.0 if discrete else _looked_up(part, offers.parts[read]))
        begin.append(len(reads))
    count, found = len(offers.parts), np.empty((3, 5))
    words, tables, rules = np.array([*begin, *reads], np.int64), np.array(looked_up), np.array(rule, np.float64)
    scratch = np.empty(plan_scratch(count, len(reads)))
    looked = native.run(
        "choose_plan", offers.table.ctypes.data, offers.starts.ctypes.data, offers.pipelines.ctypes.data,
        words.ctypes.data, words.ctypes.data + 8 * (count + 1), tables.ctypes.data, offers.site.ctypes.data,
        offers.host.ctypes.data, rules.ctypes.data, scratch.ctypes.data, chosen.ctypes.data, along.ctypes.data,
        found.ctypes.data, n=count, k=int(given),
    )  # fmt: skip
    return looked, found.tolist()


def _looked_up(part: Part, read: Part) -> float:
    """Bytes of the tables of another pipeline that one looks up in."""
    if read.features[-1].kind != "build":
        return 0.0
    number = read.info.number
    return sum(f.table_bytes for s, f in zip(part.info.subtasks, part.features) if number in s.reads)


def why(item: Placed, objective: str) -> str:
    """The reason for a choice, in words for EXPLAIN."""
    better, candidates = _BETTER[objective], item.candidates
    if len(candidates) == 1:
        return "; ".join(item.only) or "the only candidate"

    def cost(candidate: Candidate) -> float:
        return float(OBJECTIVES[objective](candidate.seconds, candidate.joules))

    ranked = sorted(candidates, key=cost)
    chosen = item.chosen
    second = next(c for c in ranked if c != chosen._replace(along=False))
    ratio = cost(second) / max(cost(chosen), 1e-300)
    if ratio < 1.0:
        return f"{second.text} alone would be {1.0 / ratio:.2f} times {better}, but not with what it hands on"
    return f"{ratio:.2f} times {better} than {second.text}"
