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
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, NamedTuple

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
from finequery.perfmodel.analytic import Jobs
from finequery.perfmodel.batch import numbers, table
from finequery.perfmodel.compose import Price
from finequery.perfmodel.model import Model, Variant
from finequery.planner.stages import (
    BATCHES,
    LEAST_BATCH,
    Part,
    Site,
    coherence,
    column_batches,
    cut_places,
    handed_on,
    handed_over,
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
_SHARES, _COUNTS = np.array(SHARES), np.array(COUNTS, np.float64)


class Candidate(NamedTuple):
    """A way to run a pipeline of ``rows`` rows, and what it takes by the model, its inputs being where they are needed.
    A search looks at many; so these are plain numbers, and ``placement`` and ``price`` are made of them when asked for.

    ``choice``: the GPU's share of the rows, or the number of batches; ``kind``: as price_layout has it; ``copying``:
    seconds of it in which the columns that a GPU lacks, of ``copied_bytes``, are copied before it is at the last
    ones."""

    seconds: float
    low: float
    high: float
    nbytes: float
    joules: float
    choice: float
    kind: int
    cut: int = 0
    rows: float = 0.0
    copying: float = 0.0
    copied_bytes: float = 0.0
    along: bool = False

    @property
    def price(self) -> Price:
        """What it takes."""
        return Price(*self[:5])

    @property
    def placement(self) -> Placement:
        """Where it runs."""
        return _placement(self.kind, self.choice, self.cut, self.rows, self.along)

    @property
    def needs(self) -> int:
        """The devices that it runs on (price_layout.NEEDS)."""
        return _NEEDS[self.kind]

    @property
    def held(self) -> int:
        """Who has its result: 0, the CPU, or 1, the GPU."""
        return _HELD[self.kind]

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


@lru_cache(maxsize=1024)
def _placement(kind: int, choice: float, cut: int, rows: float, along: bool) -> Placement:
    if kind == SHARED:
        return Placement("both", round(choice, 3), along=along)
    if kind in (ON_CPU, ON_GPU):
        return replace(CPU if kind == ON_CPU else GPU, along=along)
    first = "cpu" if kind == CPU_FIRST else "gpu"
    return Placement("phases", cut=cut, first=first, batch=int(rows / choice), along=along)


#: By kind of a candidate.
_NEEDS = (NEEDS_CPU, NEEDS_GPU, NEEDS_BOTH, NEEDS_BOTH, NEEDS_BOTH)
_HELD = (0, 1, 0, 1, 0)


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


class Offers:
    """Candidates with their prices. ``evaluated``: prices of a sub-task in a variant that the model was asked for."""

    def __init__(self, parts: Sequence[Part], site: Site, model: Model, asked: Asked):
        self.parts, self.site, self.asked = parts, site, asked
        self.gpu = site.board.gpu is not None and asked.forced != "cpu"
        self._cold = site.board.discrete and not site.resident
        self._model = model
        self._subtasks: list[Sequence[float]] = []  # that are priced: their numbers,
        self._models: list[str] = []  # and their models
        self._jobs = Jobs()
        self._ways: list[tuple[float, ...]] = []
        self._places: list[list[tuple[int, int, int]]] = []  # by pipeline: kind, cut and first row of each of its ways
        self._merges: list[tuple[int, tuple[float, ...]]] = []  # number of the way, and what its merge takes
        self._count = 0  # of rows
        self.host: list[float] = []  # by pipeline: seconds in which the host prepares and finishes it
        for place, part in enumerate(parts):
            self._offer(place, part)
        self._table = self._composed()
        self._rows: list[list[float]] = self._table.tolist()

    def _offer(self, place: int, part: Part) -> None:
        """Note the ways to run a pipeline and what has to be priced for them."""
        asked, number, features = self.asked, part.info.number, part.features
        found: list[tuple[int, int, int]] = []
        self._places.append(found)
        first, count = len(self._subtasks), len(features)
        models = [f.model for f in features]
        self._subtasks += map(numbers, features)
        self._models += models
        able = self.gpu and not asked.reasons.get(number)
        base = part.base_bytes if able and self._cold else 0.0  # bytes that are copied
        whole = range(first, first + count)
        once = [0.0, *accumulate(map(self._model.analytic.fixed_seconds, models))]
        self.host.append(once[-1])
        if asked.forced != "gpu" or not able:
            found.append((ON_CPU, 0, self._way(ON_CPU, self._job(whole, _ON_CPU))))
        if able:
            found.append((ON_GPU, 0, self._way(ON_GPU, self._job(whole, _ON_GPU), base=base, gpu_once=once[-1])))
        if not self.apart(place):
            return
        tables = [0.0, *accumulate([f.table_bytes if f.kind == "probe" else 0.0 for f in features])]
        if "both" in asked.forms:
            # what the CPU does when both are through: the breaker's own work where it is one device's, else a merge
            end = -1 if part.shared_end else self._job(whole[-1:], _ON_CPU)
            if part.shared_end:
                self._merges.append((len(self._ways), self._merge(part)))
            cpu = self._job(whole if part.shared_end else whole[:-1], _SHARED)
            passed = part.result_bytes if self.site.board.discrete else 0.0
            host = once[count if part.shared_end else count - 1]
            way = self._way(SHARED, cpu, cpu + len(SHARES), end, base, tables[-1], passed, gpu_once=host)
            found.append((SHARED, 0, way))
        cuts = asked.cuts.get(number, ()) if "phases" in asked.forms else ()
        if not cuts:
            return
        places = cut_places(part)
        for cut in cuts:
            at = places[cut]
            rows, width = handed_on(part, at)
            self._subtasks.append((rows, rows, width, width, *_WRITTEN[4:]))
            self._models.append("materialize")
            front = self._job((*whole[:at], len(self._subtasks) - 1), _BATCHED)
            back = self._job(whole[at:], _BATCHED)
            for kind, cpu, gpu in ((CPU_FIRST, front, back), (GPU_FIRST, back, front)):
                looked_up = tables[at] if gpu == front else tables[-1] - tables[at]
                paid = (once[at], once[-1] - once[at])[:: 1 if cpu == front else -1]
                row = self._way(kind, cpu, gpu + len(COUNTS), -1, 0.0, looked_up, rows * width, *paid)
                found.append((kind, cut, row))

    def apart(self, place: int) -> bool:
        """Whether a pipeline may be taken apart between devices."""
        part, asked = self.parts[place], self.asked
        able = self.gpu and asked.forced == "auto" and not asked.reasons.get(part.info.number)
        return able and part.rows >= FEW_ROWS

    def _job(self, subtasks: Sequence[int], variants: range) -> int:
        """Have sub-tasks that run fused priced in variants; the number of the first price."""
        return self._jobs.add(self._jobs.pipeline(subtasks), variants)

    def _way(
        self,
        kind: int,
        first: int,
        gpu: int = -1,
        end: int = -1,
        base: float = 0.0,
        tables: float = 0.0,
        passed: float = 0.0,
        once: float = 0.0,
        gpu_once: float = 0.0,
    ) -> int:
        """Note a way (price_layout.WAY); the number of its first row."""
        row = self._count
        self._ways.append((kind, first, gpu, end, row, base, tables, passed, once, gpu_once))
        self._count += len(SHARES) + 1 if kind == SHARED else 1
        return row

    def _merge(self, part: Part) -> tuple[float, ...]:
        """Seconds, low, high, bytes and joules of a merge."""
        board, threads = self.site.board, self.site.threads
        cost = costs.cpu_cost(board, [merge_work(part)], costs.load())
        seconds = cost.seconds(threads) + cost.fixed
        return seconds, seconds, seconds, cost.traffic, seconds * board.power.core_w * cost.threads(threads)

    def _composed(self) -> np.ndarray:
        """Rows of price_layout.CANDIDATE."""
        site, model = self.site, self._model
        cpu_load, gpu_load = site.load.get("cpu", 0.0), site.load.get("gpu", 0.0)
        self._jobs.models = model.met(self._models)
        states = _states(model, site.board.gpu is not None, site.threads, cpu_load, gpu_load)
        found = model.price_jobs(table(self._subtasks), self._jobs, states)
        self.evaluated = found.evaluated
        prices = found.pipelines().numbers
        count = len(self._ways)
        ways = np.fromiter(chain.from_iterable(self._ways), np.float64, count * len(WAY)).reshape(count, len(WAY))
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
        return out

    def _known(self) -> np.ndarray:
        """The site as price_layout.SITE has it."""
        site, board = self.site, self.site.board
        link = board.link if board.discrete else None
        slowed = 1.0 / (1.0 - site.load.get("gpu", 0.0))  # what the GPU pays for a batch, while others keep it busy
        found = {
            "once": self._model.analytic.batch_seconds("gpu") * slowed,
            "slowed": slowed,
            "idle_w": board.power.idle_w,
            "peak": np.inf if board.discrete else board.memory.shared_gbs * 1e9,
            "coherence": coherence(board, 1.0),
            "batches": BATCHES,
            "least_batch": LEAST_BATCH,
        }
        if link is not None:
            found |= {"h2d": 1e-9 / link.h2d_gbs, "d2h": 1e-9 / link.d2h_gbs, "latency": link.latency_us * 1e-6}
            found |= {"link_joules": link.joules_per_gb / 1e9, "cold": float(not site.resident)}
        return np.array([found.get(name, 0.0) for name in SITE])

    def of(self, place: int) -> list[Candidate]:
        """The candidates of a pipeline, single devices first."""
        found = []
        for kind, cut, row in self._places[place]:
            ways = [self._candidate(place, kind, cut, n) for n in range(row, row + (_SLOTS if kind == SHARED else 1))]
            found += sorted([c for c in ways if c.choice >= 0.0], key=lambda c: c.choice)
        return found

    def cheapest(self, cost: Callable[[Any, Any], Any]) -> list[list[Candidate]]:
        """By pipeline, those of ``of`` that cost least among all with the same devices and with the same one that has
        the result: nothing else about a candidate matters to the pipelines around it. ``cost`` is of seconds and
        joules."""
        table = self._table
        costs_ = np.where(table[:, 5] >= 0.0, cost(table[:, 0], table[:, 4]), np.inf)
        least = costs_.tolist()
        found = []
        for place, ways in enumerate(self._places):
            best: dict[int, tuple[float, int, int, int]] = {}
            for kind, cut, row in ways:
                if kind == SHARED:
                    row += int(costs_[row : row + _SLOTS].argmin())
                group = SHARED if kind == GPU_FIRST else kind  # both devices, and the CPU has the result
                if group not in best or least[row] < best[group][0]:
                    best[group] = least[row], kind, cut, row
            found.append([self._candidate(place, *way) for _, *way in best.values()])
        return found

    def _candidate(self, place: int, kind: int, cut: int, row: int) -> Candidate:
        part = self.parts[place]
        seconds, low, high, nbytes, joules, choice = self._rows[row]
        copied = copying = 0.0
        if self._cold and kind in (ON_GPU, SHARED):
            copied = part.base_bytes * (choice if kind == SHARED else 1.0)
            copying = min(self._copy(copied), seconds)
        return Candidate(seconds, low, high, nbytes, joules, choice, kind, cut, part.rows, copying, copied)

    def _copy(self, base: float) -> float:
        """Seconds that columns of so many bytes take to a GPU that has none of them."""
        link = self.site.board.link
        if link is None or not base:
            return 0.0
        return base / (link.h2d_gbs * 1e9) + link.latency_us * 1e-6 * column_batches(base)


#: The numbers of the sub-task that writes down what a first phase hands on, but for its rows and their width.
_WRITTEN = numbers(handed_over(0.0, 0.0))
#: Rows of the ways to share rows out.
_SLOTS = len(SHARES) + 1
#: Places among the variants: all of a pipeline, a batch of a phase on the CPU and then on the GPU, and a share of it in
#: the same order.
_ON_CPU, _ON_GPU = range(1), range(1, 2)
_BATCHED = range(2, 2 + 2 * len(COUNTS))
_SHARED = range(_BATCHED.stop, _BATCHED.stop + 2 * len(SHARES))


@lru_cache(maxsize=16)
def _states(model: Model, has_gpu: bool, threads: int, cpu_load: float, gpu_load: float) -> np.ndarray:
    """The variants that ``Offers`` has prices for, as the model reads them."""
    cpu, gpu = Variant("cpu", threads, 1.0, cpu_load), Variant("gpu", 1, 1.0, gpu_load)
    variants = [cpu]
    if has_gpu:
        variants += [gpu, *(replace(v, share=1.0 / n) for v in (cpu, gpu) for n in COUNTS)]
        variants += [*(replace(cpu, share=1.0 - s) for s in SHARES), *(replace(gpu, share=s) for s in SHARES)]
    return model.states(variants)
