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
from dataclasses import dataclass

from finequery.jetson import costs
from finequery.operators.context import Placement
from finequery.operators.primitives.price_layout import ON_CPU, ON_GPU
from finequery.perfmodel.compose import Price
from finequery.perfmodel.model import Model
from finequery.planner.candidates import Asked, Candidate, Offers
from finequery.planner.overlap import Beside, Machine, Move, Start, Way, beside, may_run_along
from finequery.planner.stages import Part, Site, coherence, column_batches

#: What a candidate that uses both devices has to gain on one device alone.
GAIN = 0.01
#: How far its worst may lie above the worst of one device alone.
MARGIN = 0.25

#: Share of the time that has to be off the longest chain of pipelines for a search for branches to be worth it.
LEAST_SLACK = 0.03

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
    """A pipeline of a placed plan. ``cheapest``: the candidates that a search looks at (``Offers.cheapest``); ``only``:
    why the GPU is no candidate."""

    part: Part
    place: int
    offers: Offers
    cheapest: list[Candidate]
    chosen: Candidate
    only: tuple[str, ...] = ()

    @property
    def candidates(self) -> list[Candidate]:
        """All of them, single devices first."""
        return self.offers.of(self.place)

    def single(self, device: str) -> Candidate | None:
        """The candidate on one device alone."""
        kind = ON_CPU if device == "cpu" else ON_GPU
        return next((c for c in self.cheapest if c.kind == kind), None)


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
    cost = OBJECTIVES[asked.objective]
    offers = Offers(parts, site, model, asked)
    placed = []
    for place, (part, cheapest) in enumerate(zip(parts, offers.cheapest(cost))):
        only = tuple(asked.reasons.get(part.info.number, ()))
        placed.append(Placed(part, place, offers, cheapest, cheapest[0], only))
    transfers = _Transfers(parts, site, offers.host)
    for item, found in zip(placed, _cheapest(placed, transfers, cost)):
        item.chosen = found
    alone = {}
    for device in ("cpu", "gpu"):
        choice = [item.single(device) for item in placed]
        if all(choice):
            alone[device] = transfers.plan([c for c in choice if c is not None])
    price = transfers.plan([p.chosen for p in placed])
    best = min(alone, key=lambda device: cost(alone[device].seconds, alone[device].joules)) if alone else ""
    if best and not _safer(price, alone[best], cost):
        for item in placed:
            single = item.single(best)
            assert single is not None
            item.chosen = single
        price = alone[best]
    made = Schedule(placed, price, alone, model.source, model.simulated, asked.objective, evaluated=offers.evaluated)
    if "along" in asked.forms:
        _branches(made, transfers)
    made.seconds = time.perf_counter() - begin
    return made


class _Transfers:
    """What it takes that one device gets a result that the other one has."""

    def __init__(self, parts: Sequence[Part], site: Site, host: Sequence[float]):
        self.site, self.parts, self.host = site, parts, host
        place_of = {part.info.number: place for place, part in enumerate(parts)}
        self.reads = [[place_of[n] for n in part.info.after if n in place_of] for part in parts]
        board = site.board
        self.idle_w = board.power.idle_w
        self.threads = min(site.threads, board.cpu.cores * (1.0 - site.load.get("cpu", 0.0)))
        # By pipeline: seconds of copying its result to the CPU and to the GPU.
        self.copies = [self._copied(part) for part in parts] if board.discrete else None
        # By pipeline, for each that it reads: seconds until it has that result, by what it needs (price_layout.NEEDS)
        # and by who holds it: 2 * needs + held.
        self.handed = [[self._handed(place, r) for r in reads] for place, reads in enumerate(self.reads)]
        peak = math.inf if board.discrete else board.memory.shared_gbs * 1e9
        self.machine = Machine(self.threads, peak, self.copies, board.link is not None and board.link.copy_engines == 1)

    def _copied(self, part: Part) -> tuple[float, float]:
        link = self.site.board.link
        if link is None:
            return 0.0, 0.0
        latency, nbytes = link.latency_us * 1e-6, part.result_bytes * 1e-9
        return latency + nbytes / link.d2h_gbs, latency + nbytes / link.h2d_gbs

    def _handed(self, reader: int, read: int) -> tuple[float, ...]:
        if self.copies is not None:
            down, up = self.copies[read]
            return 0.0, down, up, 0.0, up, down
        part, user = self.parts[read], self.parts[reader]
        if part.features[-1].kind != "build":
            return _NOTHING
        number = part.info.number
        found = [f.table_bytes for s, f in zip(user.info.subtasks, user.features) if number in s.reads]
        seconds = coherence(self.site.board, sum(found))
        # a pipeline on both keeps its tables coherent: it is in its price
        return 0.0, seconds, seconds / (1.0 - self.site.load.get("gpu", 0.0)), 0.0, 0.0, 0.0

    def result(self, held: int) -> float:
        """Seconds until the CPU has the query's answer."""
        return self.copies[-1][0] if held and self.copies is not None else 0.0

    def inputs(self, place: int, choice: Sequence[Candidate]) -> float:
        """Seconds until a pipeline of a plan has what it reads."""
        needs = 2 * choice[place].needs
        return sum([h[needs + choice[r].held] for r, h in zip(self.reads[place], self.handed[place])])

    def plan(self, choice: Sequence[Candidate]) -> Price:
        """A plan whose pipelines run one after another."""
        if not choice:
            return Price()
        held = [c.held for c in choice]
        waits = self.result(held[-1])
        for chosen, reads, handed in zip(choice, self.reads, self.handed):
            needs = 2 * chosen.needs
            for r, took in zip(reads, handed):
                waits += took[needs + held[r]]
        seconds, low, high, nbytes, joules = map(sum, zip(*[c[:5] for c in choice]))
        return Price(seconds + waits, low + waits, high + waits, nbytes, joules + waits * self.idle_w)

    def beside(
        self, ways: Sequence[tuple[int, Candidate]], starts: Sequence[Start], moves: Sequence[Move] = ()
    ) -> Beside:
        """A plan with pipelines moved beside others where that gains, of ``ways`` to run each, with its place."""
        most = [min(self.threads, max(1.0, part.rows / costs.MORSEL)) for part in self.parts]
        found = []
        for place, c in ways:
            pieces = column_batches(c.copied_bytes) if c.copying else 1
            found.append(Way(c.seconds, c.nbytes, most[place], c.needs, c.held, c.copying, self.host[place], pieces))
        handed = [h for read in self.handed for h in read]
        return beside(found, starts, moves, self.reads, handed, self.machine)

    def elapsed(self, choice: Sequence[Candidate]) -> float:
        """Seconds of a plan some of whose pipelines run along, and in which copies of results run beside what does not
        wait for them."""
        return self.beside([*enumerate(choice)], [(range(len(choice)), [c.along for c in choice])]).seconds


_NOTHING = (0.0,) * 6


def _cheapest(placed: Sequence[Placed], transfers: _Transfers, cost: Cost) -> list[Candidate]:
    """Dynamic programming over the DAG: for each pipeline and each device its result may be on, the cheapest candidate
    with the cheapest ways to its inputs. A shared subplan is placed for the first that reads it."""
    idle = transfers.idle_w
    best: list[dict[int, tuple[float, Candidate, list[tuple[int, int]]]]] = []
    for place, item in enumerate(placed):
        options: dict[int, tuple[float, Candidate, list[tuple[int, int]]]] = {}
        inputs: dict[int, tuple[float, list[tuple[int, int]]]] = {}
        reads, handed = transfers.reads[place], transfers.handed[place]
        for candidate in item.cheapest:
            needs = candidate.needs
            if needs not in inputs:
                total, wanted = 0.0, []
                for r, h in zip(reads, handed):
                    least, device = math.inf, 0
                    for held, found in best[r].items():
                        seconds = h[2 * needs + held]
                        took = found[0] + cost(seconds, seconds * idle)
                        if took < least:
                            least, device = took, held
                    total += least
                    wanted.append((r, device))
                inputs[needs] = total, wanted
            total, wanted = inputs[needs]
            total += cost(candidate.seconds, candidate.joules)
            held = candidate.held
            if held not in options or total < options[held][0]:
                options[held] = total, candidate, wanted
        best.append(options)
    chosen: list[Candidate | None] = [None] * len(placed)
    back = {held: transfers.result(held) for held in best[-1]}
    ends = {held: found[0] + cost(back[held], back[held] * idle) for held, found in best[-1].items()}
    stack = [(len(placed) - 1, min(ends, key=ends.__getitem__))]
    while stack:
        place, held = stack.pop()
        if chosen[place] is None:
            _, chosen[place], wanted = best[place][held]
            stack += wanted
    for place, one in enumerate(chosen):  # read by nobody that was placed
        if one is None:
            chosen[place] = min((o for o in best[place].values()), key=lambda o: o[0])[1]
    return [c for c in chosen if c is not None]


def _safer(price: Price, single: Price, cost: Cost) -> bool:
    """Whether a plan may be preferred to the best single device."""
    cheaper = cost(price.seconds, price.joules) <= (1.0 - GAIN) * cost(single.seconds, single.joules)
    return cheaper and price.high <= (1.0 + MARGIN) * single.high


def _branches(made: Schedule, transfers: _Transfers) -> None:
    """Let branches of the plan run beside each other where that gains."""
    placed, price, reads = made.placed, made.price, transfers.reads
    choice = [p.chosen for p in placed]
    if price.seconds - _chain(choice, reads) < LEAST_SLACK * price.seconds:
        return
    ways, starts, moves = _moves(placed, reads, transfers.copies is not None)
    if not moves:
        return
    found = transfers.beside(ways, starts, moves)
    made.looked = found.looked
    choice = [ways[way][1]._replace(along=along) for way, along in zip(found.chosen, found.along)]
    if found.seconds > (1.0 - GAIN) * price.seconds:
        return
    for item, candidate in zip(placed, choice):
        item.chosen = candidate
    one_by_one = transfers.plan(choice)
    part = found.seconds / one_by_one.seconds
    joules = one_by_one.joules - (one_by_one.seconds - found.seconds) * transfers.idle_w
    low, high = one_by_one.low * part, one_by_one.high * part
    made.price = Price(found.seconds, low, high, one_by_one.nbytes, joules)


def _moves(
    placed: Sequence[Placed], reads: Sequence[Sequence[int]], discrete: bool
) -> tuple[list[tuple[int, Candidate]], list[Start], list[Move]]:
    """Ways to run pipelines, with their places; plans that a search begins with, which ends where no move gains: the
    one whose pipelines run one after another, that one and either device alone with all branches beside each other;
    and what moves try. That is, one device beside the pipeline before; as it is, but beside that; and where results
    are copied, which may cost nothing beside something else, also one device behind it, the best of the other ways, and
    one device for it with all that it reads: none of them may gain alone."""
    ways = [(place, item.chosen) for place, item in enumerate(placed)]
    moves: list[Move] = []
    trees: list[set[int]] = []
    single: list[dict[int, int]] = []  # by place and device: the number of its way
    along = may_run_along(reads)
    for place, item in enumerate(placed):
        rest = [c for c in item.cheapest if c.kind not in (ON_CPU, ON_GPU)]
        singles = [c for c in item.cheapest if c.kind in (ON_CPU, ON_GPU)]
        single.append({c.kind: len(ways) + n for n, c in enumerate(singles)})
        ways += [(place, c) for c in singles]
        if along[place]:
            moves += [[(place, way, True)] for way in single[place].values()]
        if discrete:
            moves += [[(place, way, False)] for way in single[place].values()]
        if discrete and rest:
            moves.append([(place, len(ways), False)])
            ways.append((place, min(rest, key=lambda c: c.seconds)))
        if along[place]:
            moves.append([(place, -1, True)])
        if discrete:
            trees.append({place}.union(*(trees[r] for r in reads[place])))
            tree = sorted(trees[place])
            for device in (ON_CPU, ON_GPU):
                if len(tree) > 1 and all(device in single[n] for n in tree):
                    moves.append([(n, single[n][device], along[n]) for n in tree])
    own = range(len(placed))
    starts: list[Start] = [(own, [False] * len(placed))]
    if any(along):
        starts.append((own, along))
    starts += [([single[n].get(kind, n) for n in own], along) for kind in (ON_CPU, ON_GPU)]
    return ways, starts, moves


def _chain(choice: Sequence[Candidate], reads: Sequence[Sequence[int]]) -> float:
    """Seconds of the longest chain of pipelines that read each other."""
    ends: list[float] = []
    for candidate, needed in zip(choice, reads):
        ends.append(candidate.seconds + max([ends[r] for r in needed], default=0.0))
    return max(ends, default=0.0)


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
