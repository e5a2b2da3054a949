"""The ways to run a pipeline, and what each takes by the performance model.

A pipeline runs on one device, shared out between both, or cut into two phases. Compiled code
(operators/primitives/offers.py) notes what sub-tasks have to be priced for that, each on the devices and at the shares
that some candidate needs, has them priced, and composes what candidates take, as the simulator's stages are
(planner/stages.py), their inputs being where they are needed. ``Candidate`` objects are made of those that are chosen;
of all, for EXPLAIN alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from finequery.jetson import costs
from finequery.operators.context import CPU, GPU, Placement
from finequery.operators.primitives.price_layout import (
    CPU_FIRST,
    CUT,
    ON_CPU,
    ON_GPU,
    PART,
    SHARED,
    SITE,
)
from finequery.perfmodel.analytic import Ways
from finequery.perfmodel.batch import numbers, table
from finequery.perfmodel.compose import Price
from finequery.perfmodel.model import Model, Variant
from finequery.planner.stages import (
    BATCHES,
    LEAST_BATCH,
    Part,
    Site,
    coherence,
    cut_places,
    handed_on,
    handed_over,
    merge_work,
)

#: Shares of the rows that the GPU may take.
SHARES = tuple(n / 20 for n in range(1, 20, 2))
#: Steps of the best share between two of those.
_POINTS = 5
#: Batches that a pipeline in phases may be run in.
COUNTS = (4, 8, 16)
#: Rows below which a pipeline is not taken apart.
FEW_ROWS = 1 << 17
_SHARES, _COUNTS = np.array(SHARES), np.array(COUNTS, np.float64)


class Candidate(NamedTuple):
    """A way to run a pipeline, and what it takes by the model, its inputs being where they are needed.

    ``choice``: the GPU's share of the rows, or the number of batches; ``kind``: as price_layout has it; ``rows``: of
    the pipeline's source; ``number``: its place among the candidates of the plan."""

    seconds: float
    low: float
    high: float
    nbytes: float
    joules: float
    choice: float
    kind: int
    cut: int = 0
    rows: float = 0.0
    number: int = 0
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
    """The candidates of a plan's pipelines. ``evaluated``: prices of a sub-task in a variant that were made."""

    def __init__(self, parts: Sequence[Part], site: Site, model: Model, asked: Asked):
        self.parts, self.discrete = parts, site.board.discrete
        board, gpu = site.board, site.board.gpu is not None and asked.forced != "cpu"
        cold = board.discrete and not site.resident
        shares, phases = "both" in asked.forms, "phases" in asked.forms
        subtasks: list[tuple[float, ...]] = []
        models: list[str] = []
        rows: list[float] = []
        cut: list[tuple[int, Part, Sequence[int]]] = []
        for place, part in enumerate(parts):
            first, number, source = len(subtasks), part.info.number, part.rows
            subtasks += map(numbers, part.features)
            models += [f.model for f in part.features]
            able = gpu and not asked.reasons.get(number)
            apart = able and asked.forced == "auto" and source >= FEW_ROWS
            split = apart and shares
            rows += (first, len(subtasks), asked.forced != "gpu" or not able, able, split, part.shared_end, source)
            rows += (part.base_bytes if cold else 0.0, part.result_bytes if board.discrete else 0.0)
            rows += _merge(part, site) if split and part.shared_end else _NO_MERGE
            if apart and phases and asked.cuts.get(number):
                cut.append((place, part, asked.cuts[number]))
        cuts: list[float] = []
        for place, part, steps in cut:
            places = cut_places(part)
            for step in steps:
                count, width = handed_on(part, places[step])
                cuts += (place, step, places[step], len(subtasks), count * width)
                subtasks.append((count, count, width, width, *_WRITTEN[4:]))
                models.append("materialize")
        states = _states(
            model, board.gpu is not None, site.threads, site.load.get("cpu", 0.0), site.load.get("gpu", 0.0)
        )
        self.pipelines = np.array(rows, np.float64).reshape(-1, len(PART))
        self.site = _known(site, model)
        cut_rows = np.array(cuts, np.float64).reshape(-1, len(CUT))
        ways = Ways(self.pipelines, cut_rows, self.site, _SHARES, _POINTS, _COUNTS)
        self.table, self.starts, self.host, self.evaluated = model.offers(table(subtasks), models, states, ways)

    def of(self, place: int) -> list[Candidate]:
        """The candidates of a pipeline, single devices first."""
        first, end = self.starts[place : place + 2].tolist()
        found = [self.candidate(place, row) for row in range(first, end)]
        real = [c for c in found if c.choice >= 0.0]
        return sorted(real, key=lambda c: (min(c.kind, CPU_FIRST), c.choice if c.kind == SHARED else c.number))

    def candidate(self, place: int, number: int, along: bool = False) -> Candidate:
        """A candidate of a pipeline, by its place among all of the plan."""
        seconds, low, high, nbytes, joules, choice, kind, cut = self.table[number].tolist()
        rows = self.parts[place].rows
        return Candidate(seconds, low, high, nbytes, joules, choice, int(kind), int(cut), rows, number, along)


#: The numbers of the sub-task that writes down what a first phase hands on, but for its rows and their width.
_WRITTEN = numbers(handed_over(0.0, 0.0))
_NO_MERGE = (0.0, 0.0, 0.0)


def _merge(part: Part, site: Site) -> tuple[float, float, float]:
    """Seconds, bytes and joules of a merge."""
    board, threads = site.board, site.threads
    cost = costs.cpu_cost(board, [merge_work(part)], costs.load())
    seconds = cost.seconds(threads) + cost.fixed
    return seconds, cost.traffic, seconds * board.power.core_w * cost.threads(threads)


def _known(site: Site, model: Model) -> np.ndarray:
    """The site as price_layout.SITE has it."""
    board, link = site.board, site.board.link if site.board.discrete else None
    slowed = 1.0 / (1.0 - site.load.get("gpu", 0.0))  # what the GPU pays for a batch, while others keep it busy
    found = {
        "once": model.analytic.batch_seconds("gpu") * slowed,
        "slowed": slowed,
        "idle_w": board.power.idle_w,
        "peak": np.inf if board.discrete else board.memory.shared_gbs * 1e9,
        "coherence": coherence(board, 1.0),
        "batches": BATCHES,
        "least_batch": LEAST_BATCH,
        "discrete": board.discrete,
        "cores": min(site.threads, board.cpu.cores * (1.0 - site.load.get("cpu", 0.0))),
        "morsel": costs.MORSEL,
    }
    if link is not None:
        found |= {"h2d": 1e-9 / link.h2d_gbs, "d2h": 1e-9 / link.d2h_gbs, "latency": link.latency_us * 1e-6}
        found |= {"link_joules": link.joules_per_gb / 1e9, "cold": not site.resident}
        found |= {"one_engine": link.copy_engines == 1}
    return np.array([found.get(name, 0.0) for name in SITE], np.float64)


@lru_cache(maxsize=16)
def _states(model: Model, has_gpu: bool, threads: int, cpu_load: float, gpu_load: float) -> np.ndarray:
    """The variants that candidates are made of, as ``price_offers`` expects them."""
    cpu, gpu = Variant("cpu", threads, 1.0, cpu_load), Variant("gpu", 1, 1.0, gpu_load)
    variants = [cpu]
    if has_gpu:
        variants += [gpu, *(replace(v, share=1.0 / n) for v in (cpu, gpu) for n in COUNTS)]
        variants += [*(replace(cpu, share=1.0 - s) for s in SHARES), *(replace(gpu, share=s) for s in SHARES)]
    return model.states(variants)
