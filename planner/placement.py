"""Placement: for every pipeline of a plan CPU, GPU or both, from the performance model's prices.

For each pipeline there are *candidates*: one device alone, its rows shared out at a ratio of a grid, or its steps cut
into two phases that overlap over batches. The model prices all sub-tasks on both devices in one call; what a
candidate takes is composed of that (perfmodel/compose.py). Pipelines depend on each other through where results are:
on a discrete GPU they are copied, and tables that both devices use are kept coherent. The plan's DAG is a tree but
for shared subplans, so the cheapest whole plan is found by dynamic programming over it: for each pipeline and each
device that may hold its result, the cheapest way to get it there. Then independent branches that are placed on
different devices are let run beside each other where that gains. Everything on the CPU and everything on the GPU are
always candidates.

Uncertainty. A candidate other than the best single device must be cheaper by ``GAIN`` and may not, at the worst end
of its interval, be worse than that device's worst by more than ``MARGIN``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from finequery.operators.context import CPU, GPU, Placement
from finequery.perfmodel.compose import Price
from finequery.perfmodel.model import Model, Variant
from finequery.planner.stages import BATCHES, Part, Site, cut_in_features, end_device

#: Shares of the rows that the GPU may take.
SHARES = tuple(n / 10 for n in range(1, 10))
#: What a candidate that uses both devices has to gain on one device alone.
GAIN = 0.01
#: How far its worst may lie above the worst of one device alone.
MARGIN = 0.25
#: Rows below which a pipeline is not taken apart.
FEW_ROWS = 1 << 17

OBJECTIVES: dict[str, Callable[[Price], float]] = {
    "latency": lambda p: p.seconds,
    "energy": lambda p: p.joules,
    "edp": lambda p: p.seconds * p.joules,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to run a pipeline, and what it takes by the model, its inputs being where they are needed."""

    placement: Placement
    price: Price

    @property
    def text(self) -> str:
        """In words."""
        p = self.placement
        if p.device == "both":
            return f"both, GPU {p.share:.0%}"
        if p.device == "phases":
            other = "GPU" if p.first == "cpu" else "CPU"
            return f"{p.first.upper()} for the first {p.cut} steps, then {other}"
        return p.device.upper()


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


@dataclass(slots=True)
class Asked:
    """What is to be placed and how. ``forced``: a device for everything; ``reasons``: by pipeline, why the GPU can't
    run it; ``cuts``: by pipeline, the steps before which it may be cut; ``forms``: kinds of candidates besides single
    devices."""

    forced: str = "auto"
    objective: str = "latency"
    reasons: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    cuts: Mapping[int, Sequence[int]] = field(default_factory=dict)
    forms: frozenset[str] = frozenset(["both", "phases", "along"])


def place(parts: Sequence[Part], site: Site, model: Model, asked: Asked) -> Schedule:
    """The cheapest plan by the model."""
    begin = time.perf_counter()
    cost = OBJECTIVES[asked.objective]
    offers = _Offers(parts, site, model, asked)
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
            alone[device] = transfers.plan(placed, [c for c in choice if c is not None])
    price = transfers.plan(placed, [p.chosen for p in placed])
    best = min(alone, key=lambda device: cost(alone[device])) if alone else ""
    if best and not _safer(price, alone[best], cost):
        for item in placed:
            single = _single(item.candidates, best)
            assert single is not None
            item.chosen = single
        price = alone[best]
    if "along" in asked.forms:
        price = _branches(placed, price, site)
    return Schedule(
        *(placed, price, alone, model.source, model.simulated, asked.objective), time.perf_counter() - begin
    )


class _Offers:
    """Candidates with their prices, from one call of the model."""

    def __init__(self, parts: Sequence[Part], site: Site, model: Model, asked: Asked):
        self.parts, self.site, self.asked = parts, site, asked
        load = site.load
        self.gpu = site.board.gpu is not None and asked.forced != "cpu"
        variants = [Variant("cpu", site.threads, 1.0, load.get("cpu", 0.0))]
        if self.gpu:
            variants.append(Variant("gpu", 1, 1.0, load.get("gpu", 0.0)))
            if "both" in asked.forms and asked.forced == "auto":
                variants += [Variant("cpu", site.threads, 1.0 - s, load.get("cpu", 0.0)) for s in SHARES]
                variants += [Variant("gpu", 1, s, load.get("gpu", 0.0)) for s in SHARES]
        self.groups: dict[tuple[int, int, int], int] = {}  # pipeline, first and end of its sub-tasks
        for place, part in enumerate(parts):
            count = len(part.features)
            self._group(place, 0, count)
            if self.apart(place):
                if not part.shared_end:
                    self._group(place, 0, count - 1)
                    self._group(place, count - 1, count)
                for cut in asked.cuts.get(part.info.number, ()):
                    at = cut_in_features(part, cut)
                    self._group(place, 0, at)
                    self._group(place, at, count)
        sets = [parts[place].features[first:end] for place, first, end in self.groups]
        p = model.price_all(sets, variants).pipelines()
        self.prices = np.stack([p.seconds, p.low, p.high, p.nbytes, p.joules])
        self.once = model.analytic.batch_seconds("gpu") if self.gpu else 0.0
        self.idle_w = site.board.power.idle_w
        self.peak = np.inf if site.board.discrete else site.board.memory.shared_gbs * 1e9

    def apart(self, place: int) -> bool:
        """Whether a pipeline may be taken apart between devices."""
        part, asked = self.parts[place], self.asked
        able = self.gpu and asked.forced == "auto" and not asked.reasons.get(part.info.number)
        return able and part.rows >= FEW_ROWS

    def _group(self, place: int, first: int, end: int) -> None:
        self.groups.setdefault((place, first, end), len(self.groups))

    def span(self, variant: int | slice, place: int, first: int = 0, end: int | None = None) -> np.ndarray:
        """Seconds, low, high, bytes, joules of sub-tasks ``first`` to before ``end`` of a pipeline, fused; of several
        variants as columns."""
        end = len(self.parts[place].features) if end is None else end
        return self.prices[:, variant, self.groups[place, first, end]].copy()

    def of(self, place: int) -> list[Candidate]:
        """The candidates of a pipeline, single devices first."""
        part, asked = self.parts[place], self.asked
        able = self.gpu and not asked.reasons.get(part.info.number)
        found = []
        if asked.forced != "gpu" or not able:
            found.append(self._candidate(CPU, self.span(0, place)))
        if able:
            found.append(self._candidate(GPU, self._gpu(1, place, part.base_bytes)))
        if not self.apart(place):
            return found
        if "both" in asked.forms:
            found += self._shared(place)
        if "phases" in asked.forms:
            for cut in asked.cuts.get(part.info.number, ()):
                found += [self._phases(place, cut, first) for first in ("cpu", "gpu")]
        return found

    def _candidate(self, placement: Placement, numbers: np.ndarray) -> Candidate:
        seconds, low, high, nbytes, joules = numbers.tolist()
        return Candidate(placement, Price(seconds, low, high, nbytes, joules + seconds * self.idle_w))

    def _gpu(self, variant: int | slice, place: int, base: float | np.ndarray, end: int | None = None) -> np.ndarray:
        """The GPU at work, with its launch, behind the copies of ``base`` bytes of columns that it lacks."""
        numbers = self.span(variant, place, 0, end)
        numbers[:3] += self.once
        link = self.site.board.link
        if not self.site.resident and self.site.board.discrete and link is not None and np.any(base):
            copy = base / (link.h2d_gbs * 1e9)
            numbers[:3] = np.maximum(numbers[:3], copy) + np.minimum(numbers[:3], copy) / BATCHES
            numbers[:3] += link.latency_us * 1e-6 * BATCHES
            numbers[4] += base / 1e9 * link.joules_per_gb
        return numbers

    def _kept_coherent(self, part: Part, first: int, end: int) -> float:
        """Seconds for the tables in managed memory, which both devices look up in, at a launch."""
        gpu = self.site.board.gpu
        if gpu is None or self.site.board.discrete:
            return 0.0
        return part.probed_bytes(first, end) / 1e6 * gpu.maintenance_us_per_mb * 1e-6

    def _shared(self, place: int) -> list[Candidate]:
        """Rows shared out; the breaker's own work, where it is one device's, is the CPU's; else a merge."""
        part, shares, count = self.parts[place], np.array(SHARES), len(SHARES)
        end = None if part.shared_end else len(part.features) - 1
        cpu = self.span(slice(2, 2 + count), place, 0, end)
        gpu = self._gpu(slice(2 + count, 2 + 2 * count), place, part.base_bytes * shares, end)
        gpu[:3] += self._kept_coherent(part, 0, len(part.features))
        numbers = _together(cpu, gpu, self.peak)
        merged = 3.0 * part.result_bytes if part.shared_end else 0.0
        numbers[:3] += merged / (self.site.board.cpu.thread_gbs * 1e9)
        numbers[3] += merged
        if not part.shared_end:
            numbers += self.span(slice(0, 1), place, len(part.features) - 1)
        link = self.site.board.link
        if self.site.board.discrete and link is not None:
            numbers[:3] += link.latency_us * 1e-6 + part.result_bytes * shares / (link.d2h_gbs * 1e9)
        return [self._candidate(Placement("both", s), numbers[:, i]) for i, s in enumerate(SHARES)]

    def _phases(self, place: int, cut: int, first: str) -> Candidate:
        """Two phases over batches: FineStream eqs 4-8, by the time of a batch."""
        part, at = self.parts[place], cut_in_features(self.parts[place], cut)
        lead, rest = (0, 1) if first == "cpu" else (1, 0)
        one, two = self.span(lead, place, 0, at), self.span(rest, place, at)
        (one if lead else two)[:3] += self.once * BATCHES
        spans = (0, at) if lead else (at, len(part.features))
        (one if lead else two)[:3] += BATCHES * self._kept_coherent(part, *spans)
        handed = part.features[at - 1].rows_out * part.width_at(at - 1)
        memory = self.site.board.memory
        one[:3] += handed / (memory.shared_gbs * 1e9)
        one[3] += 2.0 * handed
        if self.site.board.discrete and self.site.board.link is not None:
            link = self.site.board.link
            one[:3] += link.latency_us * 1e-6 * BATCHES + handed / (link.h2d_gbs * 1e9)
        together = _together(one, two, self.peak)
        together[:3] += np.minimum(one[:3], two[:3]) / BATCHES
        batch = int(part.rows / BATCHES)
        return self._candidate(Placement("phases", cut=cut, first=first, batch=batch), together)


def _together(one: np.ndarray, two: np.ndarray, peak: float) -> np.ndarray:
    """Two tasks that start together on one memory: perfmodel.compose.co_run for two, over expected, low and high."""
    short, long = np.minimum(one[:3], two[:3]), np.maximum(one[:3], two[:3])
    first = one[:3] <= two[:3]
    small, large = np.where(first, one[3], two[3]), np.where(first, two[3], one[3])
    short, long = np.maximum(short, 1e-12), np.maximum(long, 1e-12)
    need_s, need_l, half = small / short, large / long, peak / 2.0
    # who needs less than half of what there is gets it, the other one the rest
    pace_s = np.minimum(np.maximum(half, peak - need_l) / np.maximum(need_s, 1.0), 1.0)
    pace_l = np.minimum(np.maximum(half, peak - need_s) / np.maximum(need_l, 1.0), 1.0)
    end_s, end_l = short / pace_s, long / pace_l
    both = np.minimum(end_s, end_l)
    left = np.where(end_s <= end_l, long - both * pace_l, short - both * pace_s)
    result = one + two
    result[:3] = both + np.maximum(left, 0.0)
    return result


class _Transfers:
    """What it takes that one device gets a result that the other one has."""

    def __init__(self, parts: Sequence[Part], site: Site):
        self.site = site
        self.place_of = {part.info.number: place for place, part in enumerate(parts)}

    def handed(self, part: Part, result: str, needs: str) -> float:
        """Seconds until the device ``needs`` has what ``result`` holds."""
        if result == needs:
            return 0.0
        board = self.site.board
        if board.discrete and board.link is not None:
            gbs = board.link.h2d_gbs if needs == "gpu" else board.link.d2h_gbs
            return board.link.latency_us * 1e-6 + part.result_bytes / (gbs * 1e9)
        if part.features[-1].kind == "build" and board.gpu is not None:
            return part.result_bytes / 1e6 * board.gpu.maintenance_us_per_mb * 1e-6
        return 0.0

    def plan(self, placed: Sequence[Placed], choice: Sequence[Candidate]) -> Price:
        """A plan whose pipelines run one after another."""
        total, seconds = Price(), 0.0
        for item, chosen in zip(placed, choice):
            total += chosen.price
            for number in item.part.info.after:
                place = self.place_of.get(number)
                if place is not None:
                    seconds += max(
                        self.handed(placed[place].part, end_device(choice[place].placement), device)
                        for device in devices(chosen.placement)
                    )
        if placed:
            seconds += self.handed(placed[-1].part, end_device(choice[-1].placement), "cpu")
        joules = seconds * self.site.board.power.idle_w
        return total + Price(seconds, seconds, seconds, 0.0, joules)


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
    for item in placed:
        reads = [transfers.place_of[n] for n in item.part.info.after if n in transfers.place_of]
        options: dict[str, tuple[float, Candidate, dict[int, str]]] = {}
        inputs: dict[tuple[str, ...], tuple[float, dict[int, str]]] = {}
        for candidate in item.candidates:
            needs = devices(candidate.placement)
            if needs not in inputs:
                total, wanted = 0.0, {}
                for r in reads:
                    ways = {
                        held: found[0] + price(max(transfers.handed(placed[r].part, held, n) for n in needs))
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
    ends = {
        held: found[0] + price(transfers.handed(placed[last].part, held, "cpu")) for held, found in best[last].items()
    }
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


def _branches(placed: list[Placed], price: Price, site: Site) -> Price:
    """Let neighbours that do not read each other and are on different devices run side by side, where one gains."""
    memory = np.inf if site.board.discrete else site.board.memory.shared_gbs * 1e9
    before: set[int] = set()
    for place in range(1, len(placed)):
        one, two = placed[place - 1], placed[place]
        left, right = one.chosen.placement, two.chosen.placement
        if place - 1 in before or one.part.info.number in two.part.info.after:
            continue
        if {left.device, right.device} != {"cpu", "gpu"}:
            continue
        pair = [np.array([p.seconds, p.low, p.high, p.nbytes, p.joules]) for p in (one.chosen.price, two.chosen.price)]
        gain = pair[0] + pair[1] - _together(pair[0], pair[1], memory)
        if gain[0] > GAIN * price.seconds:
            two.chosen = replace(two.chosen, placement=replace(right, along=True))
            before.add(place)
            saved = float(gain[0]) * site.board.power.idle_w
            price = price + Price(-float(gain[0]), -float(gain[1]), -float(gain[2]), 0.0, -saved)
    return price


def why(item: Placed, objective: str) -> str:
    """The reason for a choice, in words for EXPLAIN."""
    cost = OBJECTIVES[objective]
    if len(item.candidates) == 1:
        return "; ".join(item.only) or "the only candidate"
    ranked = sorted(item.candidates, key=lambda c: cost(c.price))
    chosen = item.chosen
    others = [c for c in ranked if replace(c.placement, along=False) != replace(chosen.placement, along=False)]
    second = others[0]
    ratio = cost(second.price) / max(cost(chosen.price), 1e-300)
    if ratio < 1.0:
        return f"{second.text} alone would be {1.0 / ratio:.2f} times faster, but not with what it hands on"
    return f"{ratio:.2f} times faster than {second.text}"
