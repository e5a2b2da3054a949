"""Analytic prices: the fall-back where nothing was learned, and what learned models are factors of.

The formula is that of jetson/costs.py, which the board simulator runs on: computing, streaming and random accesses from
the board's numbers, overlapped as its table says. Here it is packed for the kernel that evaluates it, for all sub-tasks
in all variants at once (operators/primitives/prices.py); ``tests/test_analytic.py`` holds both to the same seconds. In
a fused pipeline the streaming of one sub-task hides behind the arithmetic of another, and what one streams pushes out
of the caches what another one does. What every batch on the GPU pays once (launch and synchronisation) is not in the
formula: ``Analytic.batch_seconds``.

Columns and results lie in the memory that the device streams best from (mapped on an integrated board, device memory on
a discrete GPU, where they are supposed to be resident: perfmodel/compose.py prices copies), tables of the GPU in device
memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finequery.errors import NotSupportedError
from finequery.jetson import board as boards
from finequery.jetson import costs
from finequery.jetson.board import Board
from finequery.operators import native
from finequery.operators.primitives.price_layout import BOARD, CANDIDATE, VARIANT, offers_scratch, pricing_scratch
from finequery.perfmodel.batch import SORTS, Batch, grid, kind_of
from finequery.perfmodel.features import TILE
from finequery.perfmodel.trees import Bank, Floats
from finequery.perfmodel.work import LINE, OWN_BYTES, updates_atomically

#: A model without regressors, and without what was learned from runs.
UNFITTED = (-1.0, -1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Analysed:
    """Prices of sub-tasks alone, as (sub-tasks, variants): seconds, bytes over the memory's bus, joules above rest."""

    seconds: Floats
    nbytes: Floats
    joules: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What was fitted, as the kernel reads it: regressors; for each whether its value is a factor of units, and ln of
    the ends of its interval; and whether prices add up as they are, without the formula for fused pipelines."""

    bank: Bank | None
    by_units: Floats
    low: Floats
    high: Floats
    adds_up: bool

    def words(self) -> tuple[int, ...]:
        """It as arguments of a kernel."""
        bank = 0 if self.bank is None else self.bank.words.ctypes.data
        return bank, self.by_units.ctypes.data, self.low.ctypes.data, self.high.ctypes.data, int(self.adds_up)


class Ways(NamedTuple):
    """Pipelines and the places where they may be cut, as rows of price_layout; where they are to run; the shares of the
    rows that the GPU may get, points that each gap between two of them is parted in, and counts of batches."""

    parts: Floats
    cuts: Floats
    site: Floats
    shares: Floats
    points: int
    counts: Floats


class Offered(NamedTuple):
    """Candidates, as rows of price_layout; where those of each pipeline begin, and the seconds in which the host
    prepares and finishes each; and how many prices of a sub-task in a variant it took."""

    table: Floats
    starts: NDArray[np.int64]
    host: Floats
    evaluated: int


_NOTHING = Fit(None, np.zeros(0), np.zeros(0), np.zeros(0), adds_up=False)


class Jobs:
    """What is to be priced: pipelines, of sub-tasks that run fused, in variants; all by their numbers. ``models``: the
    number of each sub-task's model. Prices are given job by job."""

    def __init__(self, models: Sequence[int] = ()):
        self.models = models
        self.jobs: list[int] = []
        self.variants: list[int] = []
        self.starts: list[int] = []  # of each job's prices in those of all
        self.entries = 0  # prices
        self._members: list[int] = []  # sub-tasks of all pipelines
        self._ends = [0]  # of each pipeline's

    def pipeline(self, subtasks: Sequence[int]) -> int:
        """Note sub-tasks that run fused; their number."""
        self._members += subtasks
        self._ends.append(len(self._members))
        return len(self._ends) - 2

    def add(self, pipeline: int, variants: Sequence[int]) -> int:
        """Have a pipeline priced in variants; the number of the first of these jobs."""
        size, count = self._ends[pipeline + 1] - self._ends[pipeline], len(variants)
        self.jobs += [pipeline] * count
        self.variants += variants
        end = self.entries + size * count
        self.starts += range(self.entries, end, size)
        self.entries = end
        return len(self.jobs) - count

    def packed(self) -> tuple[NDArray[np.int64], list[int]]:
        """All of it as the kernel reads it, in one array, and the places in it where the models, the pipelines' members
        and starts, the jobs and the variants begin."""
        parts = (self.models, self._members, self._ends, self.jobs, self.variants)
        places = [0, *accumulate(map(len, parts))]
        return np.fromiter(chain.from_iterable(parts), np.int64, places.pop()), places


class Analytic:
    """Prices from a board's numbers; None: of the machine that runs, as far as the system tells them."""

    def __init__(self, board: Board | None = None):
        self.board = boards.host() if board is None else board
        self.source = f"analytic prices of {self.board.title} (no fitted model)"
        self._costs = costs.load()
        self._fixed: dict[str, float] = {}  # by model
        numbers = self._cpu() | self._gpu() | {"morsel": costs.MORSEL, "line": LINE, "tile": TILE}
        numbers |= {"own_bytes": OWN_BYTES, "l2_sector": costs.L2_SECTOR, "l2_speedup": costs.L2_SPEEDUP}
        self._board = np.array([numbers.get(name, 1.0) for name in BOARD], np.float64)
        self._read = {
            device: (self.clock_ghz(device), *np.log2(self.caches(device)).tolist()) for device in ("cpu", "gpu")
        }

    def _cpu(self) -> dict[str, float]:
        cpu, table = self.board.cpu, self._costs
        plain = ("cores", "speed", "vector_speed", "parallelism", "l1_bytes", "l2_bytes", "l3_bytes")
        plain += ("l1_ns", "l2_ns", "l3_ns", "memory_ns", "line_bytes", "gain")  # type: ignore[assignment]
        return {name: float(getattr(cpu, name)) for name in plain} | {
            "reference_hz": table.reference_mhz * 1e6,
            "thread_rate": cpu.thread_gbs * 1e9,
            "all_rate": cpu.all_gbs * 1e9,
            "cached_rate": cpu.cached_gbs * 1e9,
            "cpu_cache": cpu.l3_bytes,
            "cpu_overlap": table.cpu_overlap,
            "core_w": self.board.power.core_w,
            "joules_a_byte": self.board.memory.joules_per_gb / 1e9,
        }

    def _gpu(self) -> dict[str, float]:
        gpu, discrete = self.board.gpu, self.board.discrete
        if gpu is None:
            return {}
        own = self.board.gpu_memory or self.board.memory
        return {
            "lanes_hz": gpu.sms * gpu.lanes * gpu.mhz * 1e6,
            "full_rows": gpu.sms * costs.FULL_SM,
            "gpu_l2_bytes": gpu.l2_bytes,
            "gpu_cache": gpu.l2_bytes if discrete else -1.0,  # mapped memory is not cached
            "gpu_rate": (gpu.device_gbs if discrete else gpu.mapped_gbs) * 1e9,
            "gpu_bus_rate": own.shared_gbs * 1e9,
            "gpu_cached_random": gpu.cached_random * 1e9,
            "gpu_random": gpu.device_random * 1e9,
            "gpu_atomics": gpu.atomics * 1e9,
            "sector_bytes": gpu.sector_bytes,
            "gpu_overlap": self._costs.gpu_overlap,
            "gpu_w": self.board.power.gpu_w,
            "gpu_joules_a_byte": own.joules_per_gb / 1e9,
        }

    def clock_ghz(self, device: str) -> float:
        """Of the CPU's cores or the GPU."""
        gpu = self.board.gpu
        return (gpu.mhz if device == "gpu" and gpu else self.board.cpu.mhz) / 1e3

    def caches(self, device: str) -> Floats:
        """Bytes of three levels of caches, first to last, that one thread can reach."""
        cpu, gpu = self.board.cpu, self.board.gpu
        if device == "gpu" and gpu:
            return np.array([gpu.shared_bytes, gpu.l2_bytes, gpu.l2_bytes])
        return np.array([cpu.l1_bytes, cpu.l2_bytes, max(cpu.l3_bytes, cpu.l2_bytes)])

    def batch_seconds(self, device: str) -> float:
        """What a batch costs however much is in it: launch and synchronisation of the GPU."""
        gpu = self.board.gpu
        return (gpu.launch_us + gpu.sync_us) * 1e-6 if device == "gpu" and gpu else 0.0

    def fixed_seconds(self, model: str) -> float:
        """What the host pays once for a sub-task, however many rows and batches it has, and wherever it runs."""
        if model not in self._fixed:
            self._fixed[model] = costs.host_seconds(self.board, (model,), self._costs)
        return self._fixed[model]

    def coefficients(self, model: str, fitted: Sequence[float] = UNFITTED) -> tuple[float, ...]:
        """A model as price_layout.MODEL has it."""
        cpu, gpu = costs.cpu_entry(self._costs, model), costs.gpu_entry(self._costs, model)
        atomic = (float(updates_atomically(model, nbytes)) for nbytes in (0.0, math.inf))
        kind = kind_of(model)
        return (
            *(cpu.row, cpu.step, cpu.vector, cpu.random, cpu.serial, cpu.fixed_us),
            *(gpu.row, gpu.step, *atomic, float(kind in SORTS), float(kind == "probe"), *fitted),
        )

    def state(self, device: str, threads: float, share: float, load: float) -> tuple[float, ...]:
        """A variant as price_layout.VARIANT has it. Raises NotSupportedError for a device that the board does not
        have."""
        if device == "gpu" and self.board.gpu is not None:
            return (1.0, threads, share, load, *self._read["gpu"])
        if device == "cpu":
            return (0.0, threads, share, load, *self._read["cpu"])
        raise NotSupportedError(f'there is no device "{device}" on {self.board.title}')

    def price(self, batch: Batch, device: str, threads: Any, share: Any = 1.0, load: Any = 0.0) -> Analysed:
        """Prices of each sub-task alone; ``threads``, ``share`` and ``load`` broadcast to (sub-tasks, variants). Raises
        NotSupportedError for a device that the board does not have."""
        shape, different, which = grid(batch, threads, share, load)
        states = np.array([self.state(device, *row) for row in different.tolist()]).reshape(-1, len(VARIANT))
        names = {model: number for number, model in enumerate(dict.fromkeys(batch.models))}
        models = np.array([self.coefficients(name) for name in names])
        asked = Jobs([names[model] for model in batch.models])
        for i, ways in enumerate(which.reshape(shape)):
            asked.add(asked.pipeline([i]), ways.tolist())
        out, _ = self.evaluate(batch.table, models, states, asked, _NOTHING)
        return Analysed(*(out[row].reshape(shape) for row in (0, 3, 4)))

    def evaluate(self, subtasks: Floats, models: Floats, states: Floats, asked: Jobs, fit: Fit) -> tuple[Floats, int]:
        """One call of the kernel ``price_subtasks``: seconds, low, high, bytes and joules (5, sub-tasks of all jobs),
        and how many prices of a sub-task in a variant it evaluated. Rows are those of price_layout."""
        scratch = np.empty(pricing_scratch(len(subtasks), len(states)))
        out = np.empty((5, asked.entries))
        numbers, places = asked.packed()
        first = numbers.ctypes.data
        model_of, member, start, job, variant = (first + 8 * place for place in places)
        evaluated = native.run(
            "price_subtasks", subtasks.ctypes.data, len(subtasks), model_of, models.ctypes.data, states.ctypes.data,
            len(states), self._board.ctypes.data, member, start, job, variant, *fit.words(), scratch.ctypes.data,
            out.ctypes.data, n=len(asked.jobs), k=asked.entries,
        )  # fmt: skip
        return out, evaluated

    def offers(
        self, subtasks: Floats, model_of: NDArray[np.int64], models: Floats, states: Floats, fit: Fit, asked: Ways
    ) -> Offered:
        """One call of the kernel ``price_offers``. Rows are those of price_layout."""
        parts, cuts, site, shares, points, counts = asked
        count = len(parts)
        scratch = np.empty(offers_scratch(len(subtasks), count, len(cuts), len(states), len(shares), len(counts)))
        out = np.empty((count * (3 + len(shares)) + 2 * len(cuts), len(CANDIDATE)))
        starts, host = np.empty(count + 1, np.int64), np.empty(count)
        evaluated = native.run(
            "price_offers", subtasks.ctypes.data, len(subtasks), model_of.ctypes.data, models.ctypes.data,
            states.ctypes.data, len(states), self._board.ctypes.data, *fit.words(), parts.ctypes.data,
            cuts.ctypes.data, site.ctypes.data, shares.ctypes.data, len(shares), points, counts.ctypes.data,
            len(counts), scratch.ctypes.data, out.ctypes.data, starts.ctypes.data, host.ctypes.data, n=count,
            k=len(cuts),
        )  # fmt: skip
        return Offered(out, starts, host, evaluated)
