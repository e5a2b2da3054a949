"""The ways to run a pipeline, and what each takes by the performance model.

One call of the model prices the sub-tasks that candidates are made of: whole pipelines, and their pieces, on both
devices and at all shares. A candidate's price is composed of these as the simulator's stages are (planner/stages.py),
its inputs being where they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from finequery.jetson import costs
from finequery.operators.context import CPU, GPU, Placement
from finequery.perfmodel.compose import Price
from finequery.perfmodel.features import Features
from finequery.perfmodel.model import Model, Variant
from finequery.planner.stages import (
    Part,
    Site,
    coherence,
    column_batches,
    cut_in_features,
    front_features,
    merge_work,
)

#: Shares of the rows that the GPU may take.
SHARES = tuple(n / 20 for n in range(1, 20, 2))
#: Steps of the best share between two of those.
_PARTS = 5
_FINE = np.round(np.arange(SHARES[0], SHARES[-1] + 1e-9, (SHARES[1] - SHARES[0]) / _PARTS), 3)
#: Prices at shares of the grid, times this: prices at all of ``_FINE``.
_BETWEEN = np.array([np.interp(_FINE, SHARES, unit) for unit in np.eye(len(SHARES))])
#: Batches that a pipeline in phases may be run in.
COUNTS = (4, 8, 16)
#: Rows below which a pipeline is not taken apart.
FEW_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to run a pipeline, and what it takes by the model, its inputs being where they are needed."""

    placement: Placement
    price: Price
    copying: float = 0.0  # seconds of it in which the columns that a GPU lacks are copied before it is at the last ones

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


class Offers:
    """Candidates with their prices, from one call of the model."""

    def __init__(self, parts: Sequence[Part], site: Site, model: Model, asked: Asked):
        self.parts, self.site, self.asked = parts, site, asked
        self.gpu = site.board.gpu is not None and asked.forced != "cpu"
        cpu = Variant("cpu", site.threads, 1.0, site.load.get("cpu", 0.0))
        gpu = Variant("gpu", 1, 1.0, site.load.get("gpu", 0.0))
        variants = [cpu, gpu] if self.gpu else [cpu]
        self.batch = self.shared = 0  # numbers of the variants of a batch of a phase, and of the first share
        if self.gpu and asked.forced == "auto" and "phases" in asked.forms:
            self.batch = len(variants)
            variants += [replace(v, share=1.0 / n) for v in (cpu, gpu) for n in COUNTS]
        if self.gpu and asked.forced == "auto" and "both" in asked.forms:
            self.shared = len(variants)
            variants += [replace(cpu, share=1.0 - s) for s in SHARES]
            variants += [replace(gpu, share=s) for s in SHARES]
        self._sets: list[Sequence[Features]] = []
        self._number: dict[tuple[int, str, int], int] = {}
        for place, part in enumerate(parts):
            self._price(place, part)
        p = model.price_all(self._sets, variants).pipelines()
        self.prices = np.stack([p.seconds, p.low, p.high, p.nbytes, p.joules])
        self.slowed = 1.0 / (1.0 - gpu.load)  # what the GPU pays for a batch, while others keep it busy
        self.once = model.analytic.batch_seconds("gpu") * self.slowed if self.gpu else 0.0
        self.idle_w = site.board.power.idle_w
        self.peak = np.inf if site.board.discrete else site.board.memory.shared_gbs * 1e9

    def _price(self, place: int, part: Part) -> None:
        """Note what has to be priced for a pipeline."""
        features = part.features
        self._set(place, "all", 0, features)
        if not self.apart(place):
            return
        if self.shared and not part.shared_end:
            self._set(place, "rows", 0, features[:-1])
            self._set(place, "end", 0, features[-1:])
        if self.batch:
            for at in self._cuts(part):
                self._set(place, "front", at, front_features(part, at))
                self._set(place, "back", at, features[at:])

    def _set(self, place: int, what: str, at: int, features: Sequence[Features]) -> None:
        self._number[place, what, at] = len(self._sets)
        self._sets.append(features)

    def _cuts(self, part: Part) -> dict[int, int]:
        """By place among the sub-tasks, steps before which a pipeline may be cut."""
        return {cut_in_features(part, cut): cut for cut in self.asked.cuts.get(part.info.number, ())}

    def apart(self, place: int) -> bool:
        """Whether a pipeline may be taken apart between devices."""
        part, asked = self.parts[place], self.asked
        able = self.gpu and asked.forced == "auto" and not asked.reasons.get(part.info.number)
        return able and part.rows >= FEW_ROWS

    def of(self, place: int) -> list[Candidate]:
        """The candidates of a pipeline, single devices first."""
        part, asked = self.parts[place], self.asked
        able = self.gpu and not asked.reasons.get(part.info.number)
        found = []
        if asked.forced != "gpu" or not able:
            found.append(self._candidate(CPU, self._span(0, place)))
        if able:
            copying = self._copy(part.base_bytes)
            found.append(self._candidate(GPU, self._gpu(self._span(1, place), part.base_bytes), copying))
        if not self.apart(place):
            return found
        if self.shared:
            found += self._both(place)
        if self.batch:
            for at, cut in self._cuts(part).items():
                found += [self._phases(place, at, cut, first) for first in ("cpu", "gpu")]
        return found

    def _span(self, variant: int, place: int, what: str = "all", at: int = 0) -> np.ndarray:
        """Seconds, low, high, bytes, joules of fused sub-tasks."""
        return self.prices[:, variant, self._number[place, what, at]].copy()

    def _candidate(self, placement: Placement, numbers: np.ndarray, copying: float = 0.0) -> Candidate:
        seconds, low, high, nbytes, joules = numbers.tolist()
        price = Price(seconds, low, high, nbytes, joules + seconds * self.idle_w)
        return Candidate(placement, price, min(copying, seconds))

    def _copy(self, base: float) -> float:
        """Seconds that columns of so many bytes take to a GPU that has none of them."""
        link = self.site.board.link
        if self.site.resident or not self.site.board.discrete or link is None or not base:
            return 0.0
        return base / (link.h2d_gbs * 1e9) + link.latency_us * 1e-6 * column_batches(base)

    def _gpu(self, numbers: np.ndarray, base: Any) -> np.ndarray:
        """The GPU at work, with its launch, behind the copies of ``base`` bytes of columns that it lacks."""
        numbers[:3] += self.once
        link = self.site.board.link
        if not self.site.resident and self.site.board.discrete and link is not None and np.any(base):
            batches = np.vectorize(column_batches)(base)
            copy = base / (link.h2d_gbs * 1e9) + link.latency_us * 1e-6 * batches
            numbers[:3] += self.once * (batches - 1)
            numbers[:3] = np.maximum(numbers[:3], copy) + np.minimum(numbers[:3], copy) / batches
            numbers[4] += base / 1e9 * link.joules_per_gb
        return numbers

    def _merge(self, place: int) -> np.ndarray:
        """What the CPU does when both are through: the breaker's own work where it is one device's, else a merge."""
        part, board = self.parts[place], self.site.board
        if not part.shared_end:
            return self._span(0, place, "end")
        cost = costs.cpu_cost(board, [merge_work(part)], costs.load())
        seconds = cost.seconds(self.site.threads) + cost.fixed
        joules = seconds * board.power.core_w * cost.threads(self.site.threads)
        return np.array([seconds, seconds, seconds, cost.traffic, joules])

    def _both(self, place: int) -> list[Candidate]:
        """Rows shared out: at the shares of the grid, and at the best one between them, of prices that are linear in
        between. Tables that are looked up in are both devices'."""
        part, board = self.parts[place], self.site.board
        number = self._number[place, "all" if part.shared_end else "rows", 0]
        cpu, gpu = (self.prices[:, i : i + len(SHARES), number] for i in (self.shared, self.shared + len(SHARES)))
        gpu = self._gpu(gpu @ _BETWEEN, part.base_bytes * _FINE)
        gpu[:3] += coherence(board, part.probed_bytes(0, len(part.features))) * self.slowed
        numbers = together(cpu @ _BETWEEN, gpu, self.peak) + self._merge(place)[:, None]
        if board.discrete and board.link is not None:
            numbers[:3] += board.link.latency_us * 1e-6 + part.result_bytes * _FINE / (board.link.d2h_gbs * 1e9)
        best = int(np.argmin(numbers[0]))
        shown = sorted({best, *range(0, len(_FINE), _PARTS)})
        return [
            self._candidate(Placement("both", share), numbers[:, n], self._copy(part.base_bytes * share))
            for n, share in ((n, float(_FINE[n])) for n in shown)
        ]

    def _phases(self, place: int, at: int, cut: int, first: str) -> Candidate:
        """Two phases over the best number of batches: t1 + t2 + (n - 1)·step of a batch's times, as
        perfmodel.compose.batch_pipeline has it. What the CPU pays once is not paid for every batch."""
        part, board, counts = self.parts[place], self.site.board, np.array(COUNTS)
        spans = {"front": (0, at), "back": (at, len(part.features))}
        on_cpu, on_gpu = ("front", "back") if first == "cpu" else ("back", "front")
        numbers = [self._number[place, what, at] for what in (on_cpu, on_gpu)]
        one, two = (
            self.prices[:, self.batch + n * len(COUNTS) : self.batch + (n + 1) * len(COUNTS), number].copy()
            for n, number in enumerate(numbers)
        )
        once = np.minimum(self._starts(part, *spans[on_cpu]), 0.9 * one[:3])
        one[:3] -= once
        two[:3] += self.once + coherence(board, part.probed_bytes(*spans[on_gpu])) * self.slowed
        step, total = together(one, two, self.peak), one + two
        total[:3] += once
        if board.discrete and board.link is not None:
            gbs = board.link.h2d_gbs if first == "cpu" else board.link.d2h_gbs
            copy = board.link.latency_us * 1e-6 + self._handed(part, at) / counts / (gbs * 1e9)
            total[:3] += copy
            step[:3] = np.maximum(step[:3], copy)
        total[:3] += (counts - 1) * step[:3]
        total[3:] *= counts
        best = int(np.argmin(total[0]))
        return self._candidate(
            Placement("phases", cut=cut, first=first, batch=int(part.rows / counts[best])), total[:, best]
        )

    def _starts(self, part: Part, first: int, end: int) -> float:
        """Seconds that the CPU pays once for sub-tasks, however many batches there are."""
        table = costs.load()
        fixed = sum(costs.cpu_entry(table, f.model).fixed_us for f in part.features[first:end])
        return fixed * 1e-6 / self.site.board.cpu.speed

    def _handed(self, part: Part, at: int) -> float:
        """Bytes between two phases."""
        written = front_features(part, at)[-1]
        return written.rows * written.bytes_out


def together(one: np.ndarray, two: np.ndarray, peak: float) -> np.ndarray:
    """Two tasks that start together on one memory: perfmodel.compose.co_run for two, over expected, low and high; of
    arrays with a second dimension, for each of its columns."""
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
