"""Placement: for every pipeline of a plan CPU, GPU or both, from the performance model's prices.

For each pipeline there are *candidates* (planner/candidates.py): one device alone, its rows shared out at a ratio of
a grid, or its steps cut into two phases that overlap over batches. Pipelines depend on each other through where
results are: on a discrete GPU they are copied, and tables that both devices use are kept coherent. The plan's DAG is
a tree but for shared subplans, so the cheapest whole plan is found by dynamic programming over it: for each pipeline
and each device that may hold its result, the cheapest way to get it there. Then branches that do not read each other
are let run beside each other where that gains (planner/overlap.py). Everything on the CPU and everything on the GPU
are always candidates.

Uncertainty. A candidate other than the best single device must be cheaper by ``GAIN`` and may not, at the worst end
of its interval, be worse than that device's worst by more than ``MARGIN``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from finequery.jetson import costs
from finequery.operators.context import Placement
from finequery.perfmodel.compose import Price
from finequery.perfmodel.model import Model
from finequery.planner.candidates import Asked, Candidate, Offers
from finequery.planner.overlap import D2H, GPU, H2D, Task, beside, elapsed, may_run_along
from finequery.planner.stages import Part, Site, coherence, column_batches, end_device

#: What a candidate that uses both devices has to gain on one device alone.
GAIN = 0.01
#: How far its worst may lie above the worst of one device alone.
MARGIN = 0.25

OBJECTIVES: dict[str, Callable[[Price], float]] = {
    "latency": lambda p: p.seconds,
    "energy": lambda p: p.joules,
    "edp": lambda p: p.seconds * p.joules,
}
_BETTER = {"latency": "faster", "energy": "thriftier", "edp": "better in energy by time"}


@dataclass(slots=True)
class Placed:
    """A pipeline of a placed plan. ``only``: why the GPU is no candidate."""

    part: Part
    candidates: list[Candidate]
    chosen: Candidate
    only: tuple[str, ...] = ()


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

    @property
    def placements(self) -> dict[int, Placement]:
        """By id of the tasks and Probes of each pipeline, for the executor."""
        return {id(item): p.chosen.placement for p in self.placed for item in p.part.info.runs}


def place(parts: Sequence[Part], site: Site, model: Model, asked: Asked) -> Schedule:
    """The cheapest plan by the model."""
    begin = time.perf_counter()
    cost = OBJECTIVES[asked.objective]
    offers = Offers(parts, site, model, asked)
    placed = []
    for place, part in enumerate(parts):
        candidates = offers.of(place)
        placed.append(Placed(part, candidates, candidates[0], only=tuple(asked.reasons.get(part.info.number, ()))))
    transfers = _Transfers(parts, site)
    for item, found in zip(placed, _cheapest(placed, transfers, cost)):
        item.chosen = found
    alone = {}
    for device in ("cpu", "gpu"):
        choice = [_single(p.candidates, device) for p in placed]
        if all(choice):
            alone[device] = transfers.plan([c for c in choice if c is not None])
    price = transfers.plan([p.chosen for p in placed])
    best = min(alone, key=lambda device: cost(alone[device])) if alone else ""
    if best and not _safer(price, alone[best], cost):
        for item in placed:
            single = _single(item.candidates, best)
            assert single is not None
            item.chosen = single
        price = alone[best]
    if "along" in asked.forms:
        price = _branches(placed, price, transfers)
    return Schedule(
        *(placed, price, alone, model.source, model.simulated, asked.objective), time.perf_counter() - begin
    )


class _Transfers:
    """What it takes that one device gets a result that the other one has."""

    def __init__(self, parts: Sequence[Part], site: Site):
        self.site, self.parts = site, parts
        place_of = {part.info.number: place for place, part in enumerate(parts)}
        self.reads = [[place_of[n] for n in part.info.after if n in place_of] for part in parts]
        board = site.board
        self.peak = math.inf if board.discrete else board.memory.shared_gbs * 1e9
        self.threads = min(site.threads, board.cpu.cores * (1.0 - site.load.get("cpu", 0.0)))
        self.cores = [min(self.threads, max(1.0, part.rows / costs.MORSEL)) for part in parts]
        self.one_engine = board.link is not None and board.link.copy_engines == 1

    def handed(self, reader: int, read: int, held: str, needs: tuple[str, ...]) -> float:
        """Seconds until a pipeline that runs on the devices ``needs`` can use the result of one that it reads, which
        the device ``held`` has."""
        board, part = self.site.board, self.parts[read]
        if board.discrete:
            return max(self._copied(part, held, device) for device in needs)
        if needs == (held,) or len(needs) > 1:  # a pipeline on both keeps its tables coherent: it is in its price
            return 0.0
        number, user = part.info.number, self.parts[reader]
        found = [f.table_bytes for s, f in zip(user.info.subtasks, user.features) if number in s.reads]
        slowed = 1.0 / (1.0 - self.site.load.get("gpu", 0.0)) if needs == ("gpu",) else 1.0
        return coherence(board, sum(found)) * slowed if part.features[-1].kind == "build" else 0.0

    def _copied(self, part: Part, held: str, needs: str) -> float:
        link = self.site.board.link
        if held == needs or link is None:
            return 0.0
        return link.latency_us * 1e-6 + part.result_bytes / ((link.h2d_gbs if needs == "gpu" else link.d2h_gbs) * 1e9)

    def result(self, held: str) -> float:
        """Seconds until the CPU has the query's answer."""
        return self._copied(self.parts[-1], held, "cpu") if self.site.board.discrete else 0.0

    def inputs(self, place: int, choice: Sequence[Candidate]) -> float:
        """Seconds until a pipeline of a plan has what it reads."""
        needs = devices(choice[place].placement)
        return sum(self.handed(place, r, end_device(choice[r].placement), needs) for r in self.reads[place])

    def elapsed(self, choice: Sequence[Candidate]) -> float:
        """Seconds of a plan some of whose pipelines run along, and in which copies of results run beside what does not
        wait for them."""
        tasks: list[Task] = []
        ends: list[int] = []  # by pipeline: its last task
        copies: dict[tuple[int, str], int] = {}
        last: tuple[int, ...] = ()  # of the pipelines that are not placed along
        discrete = self.site.board.discrete
        for place, candidate in enumerate(choice):
            needs, seconds = devices(candidate.placement), candidate.price.seconds
            after = [ends[r] for r in self.reads[place]]
            if not candidate.placement.along:
                after += last
            if discrete:
                for r in self.reads[place]:
                    held = end_device(choice[r].placement)
                    for device in needs:
                        if device != held:
                            if (r, device) not in copies:
                                copies[r, device] = len(tasks)
                                tasks.append(self._copy(r, device, (ends[r],)))
                            after.append(copies[r, device])
            else:
                seconds += self.inputs(place, choice)
            engines, cores = (GPU if "gpu" in needs else 0), (self.cores[place] if "cpu" in needs else 0.0)
            if candidate.copying:  # of columns, which the GPU follows batch by batch
                share = candidate.placement.share if len(needs) > 1 else 1.0
                pieces = column_batches(self.parts[place].base_bytes * share)
                seconds -= candidate.copying
                for _ in range(pieces):
                    tasks.append(Task(candidate.copying / pieces, 0.0, H2D, 0.0, tuple(after)))
                    after = [len(tasks) - 1]
            ends.append(len(tasks))
            tasks.append(Task(seconds, candidate.price.nbytes, engines, cores, tuple(after)))
            if not candidate.placement.along:
                last = (ends[-1],)
        if discrete and end_device(choice[-1].placement) == "gpu":
            tasks.append(self._copy(len(choice) - 1, "cpu", (ends[-1],)))
        return elapsed(tasks, self.threads, self.peak)

    def _copy(self, read: int, needs: str, after: tuple[int, ...]) -> Task:
        held = "cpu" if needs == "gpu" else "gpu"
        engine = H2D if needs == "gpu" or self.one_engine else D2H
        return Task(self._copied(self.parts[read], held, needs), 0.0, engine, 0.0, after)

    def plan(self, choice: Sequence[Candidate]) -> Price:
        """A plan whose pipelines run one after another."""
        total, seconds = Price(), 0.0
        for place, chosen in enumerate(choice):
            total += chosen.price
            seconds += self.inputs(place, choice)
        if choice:
            seconds += self.result(end_device(choice[-1].placement))
        return total + Price(seconds, seconds, seconds, 0.0, seconds * self.site.board.power.idle_w)


def devices(placement: Placement) -> tuple[str, ...]:
    """The devices that a pipeline placed so runs on."""
    return ("cpu", "gpu") if placement.device in ("both", "phases") else (placement.device,)


def _cheapest(placed: Sequence[Placed], transfers: _Transfers, cost: Callable[[Price], float]) -> list[Candidate]:
    """Dynamic programming over the DAG: for each pipeline and each device its result may be on, the cheapest candidate
    with the cheapest ways to its inputs. A shared subplan is placed for the first that reads it."""
    idle = transfers.site.board.power.idle_w

    def price(seconds: float) -> float:
        return cost(Price(seconds, seconds, seconds, 0.0, seconds * idle)) if seconds else 0.0

    best: list[dict[str, tuple[float, Candidate, dict[int, str]]]] = []
    for place, item in enumerate(placed):
        options: dict[str, tuple[float, Candidate, dict[int, str]]] = {}
        inputs: dict[tuple[str, ...], tuple[float, dict[int, str]]] = {}
        for candidate in item.candidates:
            needs = devices(candidate.placement)
            if needs not in inputs:
                total, wanted = 0.0, {}
                for r in transfers.reads[place]:
                    ways = {
                        held: found[0] + price(transfers.handed(place, r, held, needs))
                        for held, found in best[r].items()
                    }
                    wanted[r] = min(ways, key=ways.__getitem__)
                    total += ways[wanted[r]]
                inputs[needs] = total, wanted
            total, wanted = inputs[needs]
            total += cost(candidate.price)
            held = end_device(candidate.placement)
            if held not in options or total < options[held][0]:
                options[held] = total, candidate, wanted
        best.append(options)
    chosen: list[Candidate | None] = [None] * len(placed)
    last = len(placed) - 1
    ends = {held: found[0] + price(transfers.result(held)) for held, found in best[last].items()}
    stack = [(last, min(ends, key=ends.__getitem__))]
    while stack:
        place, held = stack.pop()
        if chosen[place] is None:
            _, chosen[place], wanted = best[place][held]
            stack += wanted.items()
    for place, found in enumerate(chosen):  # read by nobody that was placed
        if found is None:
            chosen[place] = min((o for o in best[place].values()), key=lambda o: o[0])[1]
    return [c for c in chosen if c is not None]


def _safer(price: Price, single: Price, cost: Callable[[Price], float]) -> bool:
    """Whether a plan may be preferred to the best single device."""
    return cost(price) <= (1.0 - GAIN) * cost(single) and price.high <= (1.0 + MARGIN) * single.high


def _single(candidates: Sequence[Candidate], device: str) -> Candidate | None:
    return next((c for c in candidates if c.placement.device == device), None)


def _branches(placed: list[Placed], price: Price, transfers: _Transfers) -> Price:
    """Let branches of the plan run beside each other where that gains."""
    board = transfers.site.board
    along = [may_run_along(n, transfers.reads) for n in range(len(placed))]
    ways = [_ways(p.candidates, beside_, board.discrete) for p, beside_ in zip(placed, along)]
    moves = _subtrees(placed, transfers.reads, along) if board.discrete else []
    starts = [[p.chosen for p in placed]]
    if board.discrete and not transfers.site.resident:  # much is copied beside much else: also from the other ends
        for device in ("cpu", "gpu"):
            single = [_single(p.candidates, device) or p.candidates[0] for p in placed]
            starts.append([_along(c) if beside_ else c for c, beside_ in zip(single, along)])
    found = [beside(start, ways, transfers.reads, transfers.elapsed, moves) for start in starts]
    choice, seconds = min(found, key=lambda plan: plan[1])
    if seconds > (1.0 - GAIN) * price.seconds:
        return price
    for item, found in zip(placed, choice):
        item.chosen = found
    one_by_one = transfers.plan(choice)
    part = seconds / one_by_one.seconds
    joules = one_by_one.joules - (one_by_one.seconds - seconds) * board.power.idle_w
    return Price(seconds, one_by_one.low * part, one_by_one.high * part, one_by_one.nbytes, joules)


def _ways(candidates: Sequence[Candidate], along: bool, discrete: bool) -> list[Candidate]:
    """Ways to run a pipeline that are tried: on one device beside the one before it; and where results are copied,
    which may cost nothing beside something else, also by the best of the other ways."""
    singles = [c for c in candidates if c.placement.device in ("cpu", "gpu")]
    found = [_along(c) for c in singles] if along else []
    if discrete:
        others = [c for c in candidates if c not in singles]
        found += [min(others, key=lambda c: c.price.seconds)] if others else []
    return found


def _subtrees(
    placed: Sequence[Placed], reads: Sequence[Sequence[int]], along: Sequence[bool]
) -> list[dict[int, Candidate]]:
    """Each pipeline with all that it reads on one device: where results are copied, none of them may gain alone."""
    moves = []
    trees: list[set[int]] = []
    for place in range(len(placed)):
        trees.append({place}.union(*(trees[r] for r in reads[place])))
        for device in ("cpu", "gpu"):
            single = {n: _single(placed[n].candidates, device) for n in trees[place]}
            if len(single) > 1 and all(single.values()):
                moves.append({n: _along(c) if along[n] else c for n, c in single.items() if c is not None})
    return moves


def _along(candidate: Candidate) -> Candidate:
    return replace(candidate, placement=replace(candidate.placement, along=True))


def why(item: Placed, objective: str) -> str:
    """The reason for a choice, in words for EXPLAIN."""
    cost, better = OBJECTIVES[objective], _BETTER[objective]
    if len(item.candidates) == 1:
        return "; ".join(item.only) or "the only candidate"
    ranked = sorted(item.candidates, key=lambda c: cost(c.price))
    chosen = item.chosen
    others = [c for c in ranked if replace(c.placement, along=False) != replace(chosen.placement, along=False)]
    second = others[0]
    ratio = cost(second.price) / max(cost(chosen.price), 1e-300)
    if ratio < 1.0:
        return f"{second.text} alone would be {1.0 / ratio:.2f} times {better}, but not with what it hands on"
    return f"{ratio:.2f} times {better} than {second.text}"
