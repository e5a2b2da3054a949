"""The ways to run a pipeline, and what each takes by the performance model.

One call of the model prices the sub-tasks that candidates are made of: whole pipelines, and their pieces, each on the
devices and at the shares that some candidate needs. A second call of compiled code composes what candidates take, as
the simulator's stages are (planner/stages.py), their inputs being where they are needed
(operators/primitives/placing.py). ``Candidate`` objects are made of the few that a search looks at; of all, for EXPLAIN
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TypeAlias

import numpy as np

from finequery.jetson import costs
from finequery.operators import native
from finequery.operators.context import CPU, GPU, Placement
from finequery.operators.primitives.price_layout import (
    CANDIDATE,
    CPU_FIRST,
    GPU_FIRST,
    NEEDS_BOTH,
    NEEDS_CPU,
    NEEDS_GPU,
    ON_CPU,
    ON_GPU,
    SHARED,
    SITE,
    WAY,
)
from finequery.perfmodel.compose import Price
from finequery.perfmodel.features import Features
from finequery.perfmodel.model import Model, Variant
from finequery.planner.stages import (
    BATCHES,
    LEAST_BATCH,
    Part,
    Site,
    coherence,
    column_batches,
    cut_in_features,
    end_device,
    front_features,
    merge_work,
)

#: Shares of the rows that the GPU may take.
SHARES = tuple(n / 20 for n in range(1, 20, 2))
#: Steps of the best share between two of those.
_PARTS = 5
#: Batches that a pipeline in phases may be run in.
COUNTS = (4, 8, 16)
#: Rows below which a pipeline is not taken apart.
FEW_ROWS = 1 << 17
_NEEDS = {"cpu": NEEDS_CPU, "gpu": NEEDS_GPU, "both": NEEDS_BOTH, "phases": NEEDS_BOTH}
_SHARES, _COUNTS = np.array(SHARES), np.array(COUNTS, np.float64)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to run a pipeline, and what it takes by the model, its inputs being where they are needed."""

    placement: Placement
    price: Price
    copying: float = 0.0  # seconds of it in which the columns that a GPU lacks are copied before it is at the last ones

    @property
    def needs(self) -> int:
        """The devices that it runs on (price_layout.NEEDS)."""
        return _NEEDS[self.placement.device]

    @property
    def held(self) -> int:
        """Who has its result: 0, the CPU, or 1, the GPU."""
        return int(end_device(self.placement) == "gpu")

    def moved(self, along: bool) -> Candidate:
        """The same, beside the pipelines before it or behind them."""
        if self.placement.along == along:
            return self
        return Candidate(replace(self.placement, along=along), self.price, self.copying)

    @property
    def text(self) -> str:
        """In words."""
        p = self.placement
        if p.device == "both":
            return f"both, GPU {p.share:.0%}"
        if p.device == "phases":
            other = "GPU" if p.first == "cpu" else "CPU"
            steps = "the first step" if p.cut == 1 else f"the first {p.cut} steps"
            return f"{p.first.upper()} for {steps}, then {other}"
        return p.device.upper()


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


#: A candidate before it is one: its kind (price_layout), the step before which it is cut, and what it takes.
_Row: TypeAlias = tuple[int, int, list[float]]


class Offers:
    """Candidates with their prices. ``evaluated``: prices of a sub-task in a variant that the model was asked for."""

    def __init__(self, parts: Sequence[Part], site: Site, model: Model, asked: Asked):
        self.parts, self.site, self.asked = parts, site, asked
        self.gpu = site.board.gpu is not None and asked.forced != "cpu"
        self.slowed = 1.0 / (
            1.0 - site.load.get("gpu", 0.0)
        )  # what the GPU pays for a batch, while others keep it busy
        self._model = model
        self._sets: list[Sequence[Features]] = []
        self._jobs: list[int] = []  # numbers of the sets that are priced
        self._variants: list[int] = []  # and in which variants
        self._ways: list[tuple[float, ...]] = []
        self._kinds: list[list[tuple[int, int, int]]] = []  # by pipeline: kind, cut and first row of each of its ways
        self._merges: list[tuple[int, tuple[float, ...]]] = []  # number of the way, and what its merge takes
        self._count = 0  # of rows
        for place, part in enumerate(parts):
            self._offer(place, part)
        self._rows = self._composed()

    def _offer(self, place: int, part: Part) -> None:
        """Note the ways to run a pipeline and what has to be priced for them."""
        asked, number = self.asked, part.info.number
        self._kinds.append([])
        able = self.gpu and not asked.reasons.get(number)
        base = part.base_bytes if able else 0.0
        whole = self._set(part.features)
        if asked.forced != "gpu" or not able:
            self._way(place, ON_CPU, 0, self._job(whole, _ON_CPU))
        if able:
            self._way(place, ON_GPU, 0, self._job(whole, _ON_GPU), base=base)
        if not self.apart(place):
            return
        tables = [0.0, *accumulate(f.table_bytes if f.kind == "probe" else 0.0 for f in part.features)]
        if "both" in asked.forms:
            shared_end = part.shared_end
            split = whole if shared_end else self._set(part.features[:-1])
            first = self._job(split, _SHARED)
            # what the CPU does when both are through: the breaker's own work where it is one device's, else a merge
            end = -1 if shared_end else self._job(self._set(part.features[-1:]), _ON_CPU)
            if shared_end:
                self._merges.append((len(self._ways), self._merge(part)))
            passed = part.result_bytes if self.site.board.discrete else 0.0
            self._way(place, SHARED, 0, first, first + len(SHARES), end, base, tables[-1], passed)
        cuts = asked.cuts.get(number, ()) if "phases" in asked.forms else ()
        if cuts:
            once = [0.0, *accumulate(self._model.analytic.fixed_seconds(f.model) for f in part.features)]
        for cut in cuts:
            at = cut_in_features(part, cut)
            front = front_features(part, at)
            handed = front[-1].rows * front[-1].bytes_out
            jobs = [self._job(self._set(features), _BATCHED) for features in (front, part.features[at:])]
            for kind, cpu, gpu in ((CPU_FIRST, 0, 1), (GPU_FIRST, 1, 0)):
                paid = once[at] if cpu == 0 else once[-1] - once[at]
                looked_up = tables[at] if gpu == 0 else tables[-1] - tables[at]
                on_gpu = jobs[gpu] + len(COUNTS)
                self._way(place, kind, cut, jobs[cpu], on_gpu, -1, 0.0, looked_up, handed, paid)

    def apart(self, place: int) -> bool:
        """Whether a pipeline may be taken apart between devices."""
        part, asked = self.parts[place], self.asked
        able = self.gpu and asked.forced == "auto" and not asked.reasons.get(part.info.number)
        return able and part.rows >= FEW_ROWS

    def _set(self, features: Sequence[Features]) -> int:
        """The number of sub-tasks that run fused."""
        self._sets.append(features)
        return len(self._sets) - 1

    def _job(self, number: int, variants: range) -> int:
        """Have sub-tasks priced in variants; the number of the first price."""
        self._jobs += [number] * len(variants)
        self._variants += variants
        return len(self._jobs) - len(variants)

    def _way(
        self,
        place: int,
        kind: int,
        cut: int,
        first: int,
        gpu: int = -1,
        end: int = -1,
        base: float = 0.0,
        tables: float = 0.0,
        passed: float = 0.0,
        once: float = 0.0,
    ) -> None:
        """Note a way (price_layout.WAY)."""
        self._kinds[place].append((kind, cut, self._count))
        self._ways.append((kind, first, gpu, end, self._count, base, tables, passed, once))
        self._count += len(SHARES) + 1 if kind == SHARED else 1

    def _merge(self, part: Part) -> tuple[float, ...]:
        """Seconds, low, high, bytes and joules of a merge."""
        board, threads = self.site.board, self.site.threads
        cost = costs.cpu_cost(board, [merge_work(part)], costs.load())
        seconds = cost.seconds(threads) + cost.fixed
        return seconds, seconds, seconds, cost.traffic, seconds * board.power.core_w * cost.threads(threads)

    def _composed(self) -> list[list[float]]:
        """Rows of price_layout.CANDIDATE."""
        site, model = self.site, self._model
        cpu = Variant("cpu", site.threads, 1.0, site.load.get("cpu", 0.0))
        gpu = Variant("gpu", 1, 1.0, site.load.get("gpu", 0.0))
        variants = [cpu]
        if self.gpu:
            variants += [gpu, *(replace(v, share=1.0 / n) for v in (cpu, gpu) for n in COUNTS)]
            variants += [*(replace(cpu, share=1.0 - s) for s in SHARES), *(replace(gpu, share=s) for s in SHARES)]
        found = model.price_some(self._sets, variants, self._jobs, self._variants)
        self.evaluated = found.evaluated
        prices = found.pipelines().numbers
        ways = np.array(self._ways)
        if self._merges:
            at, merges = zip(*self._merges)
            ways[list(at), WAY.index("end")] = range(prices.shape[1], prices.shape[1] + len(at))
            prices = np.concatenate([prices, np.array(merges).T], axis=1)
        out, scratch = np.empty((self._count, len(CANDIDATE))), np.empty(10)
        known = self._known()
        native.run(
            "compose_ways", ways.ctypes.data, prices.ctypes.data, known.ctypes.data, _SHARES.ctypes.data, len(SHARES),
            _PARTS, _COUNTS.ctypes.data, len(COUNTS), out.ctypes.data, scratch.ctypes.data, n=len(ways),
            k=prices.shape[1],
        )  # fmt: skip
        return out.tolist()  # type: ignore[no-any-return]

    def _known(self) -> np.ndarray:
        """The site as price_layout.SITE has it."""
        site, board = self.site, self.site.board
        link = board.link if board.discrete else None
        numbers = {
            "once": self._model.analytic.batch_seconds("gpu") * self.slowed,
            "slowed": self.slowed,
            "idle_w": board.power.idle_w,
            "peak": np.inf if board.discrete else board.memory.shared_gbs * 1e9,
            "coherence": coherence(board, 1.0),
            "batches": BATCHES,
            "least_batch": LEAST_BATCH,
        }
        if link is not None:
            numbers |= {"h2d": 1e-9 / link.h2d_gbs, "d2h": 1e-9 / link.d2h_gbs, "latency": link.latency_us * 1e-6}
            numbers |= {"link_joules": link.joules_per_gb / 1e9, "cold": float(not site.resident)}
        return np.array([numbers.get(name, 0.0) for name in SITE])

    def of(self, place: int) -> list[Candidate]:
        """The candidates of a pipeline, single devices first."""
        return [self._candidate(place, row) for row in self._of(place)]

    def cheapest(self, place: int, cost: Callable[[float, float], float]) -> list[Candidate]:
        """Those of ``of`` that cost least among all with the same devices and with the same one that has the result:
        nothing else about a candidate matters to the pipelines around it. ``cost`` is of seconds and joules."""
        best: dict[int, tuple[float, _Row]] = {}
        for row in self._of(place):
            kind, _, numbers = row
            group = SHARED if kind == GPU_FIRST else kind  # both devices, and the CPU has the result
            costs_ = cost(numbers[0], numbers[4])
            if group not in best or costs_ < best[group][0]:
                best[group] = costs_, row
        return [self._candidate(place, row) for _, row in best.values()]

    def _of(self, place: int) -> list[_Row]:
        found = []
        for kind, cut, first in self._kinds[place]:
            if kind != SHARED:
                found.append((kind, cut, self._rows[first]))
                continue
            *shown, best = self._rows[first : first + len(SHARES) + 1]
            if best[5] >= 0.0:
                shown = sorted([*shown, best], key=lambda numbers: numbers[5])
            found += [(kind, cut, numbers) for numbers in shown]
        return found

    def _candidate(self, place: int, row: _Row) -> Candidate:
        kind, cut, (seconds, low, high, nbytes, joules, choice) = row
        price, part = Price(seconds, low, high, nbytes, joules), self.parts[place]
        if kind == ON_CPU:
            return Candidate(CPU, price)
        if kind == ON_GPU:
            return Candidate(GPU, price, min(self._copy(part), seconds))
        if kind == SHARED:
            return Candidate(Placement("both", round(choice, 3)), price)
        first = "cpu" if kind == CPU_FIRST else "gpu"
        return Candidate(Placement("phases", cut=cut, first=first, batch=int(part.rows / choice)), price)

    def _copy(self, part: Part) -> float:
        """Seconds that the columns of a pipeline take to a GPU that has none of them."""
        link = self.site.board.link
        if self.site.resident or not self.site.board.discrete or link is None or not part.base_bytes:
            return 0.0
        base = part.base_bytes
        return base / (link.h2d_gbs * 1e9) + link.latency_us * 1e-6 * column_batches(base)


#: Places among the variants of ``Offers._composed``: all of a pipeline, a batch of a phase on the CPU and then on the
#: GPU, and a share of it, in the same order.
_ON_CPU, _ON_GPU = range(1), range(1, 2)
_BATCHED = range(2, 2 + 2 * len(COUNTS))
_SHARED = range(_BATCHED.stop, _BATCHED.stop + 2 * len(SHARES))
