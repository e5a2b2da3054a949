"""A discrete-event simulation of a board: CPU cores, a GPU and copy engines on a memory that they share.

A plan is a list of stages. A stage is the part of it that runs on one engine, in one or more batches; ``Machine.run``
gives the time of each batch, and time, bytes and energy of the whole. Between two events every running batch makes
progress at a steady rate: 1 if it has what it takes alone (``finequery.jetson.costs``), less where it must share.

- **Cores.** A CPU stage spreads over its threads. Stages that run at once share the cores: each gets what it wants or
  an equal share, whichever is less (max-min fair), and takes as long as it would alone on that many.
- **Memory.** A batch that takes t seconds alone and moves b bytes asks for b / t. What the bus can give is shared
  max-min fair, and who gets less than asked slows down in proportion. For equal demands this is FineStream's rule
  (USENIX ATC 2020, eq 1: times are stretched by the sum of the demands over the bandwidth); one that asks for little,
  being bound by arithmetic, is not slowed by one that asks for much. A discrete GPU's memory and the link's directions
  are shared by the same rule, one after another.
- **GPU and copy engines** take one batch at a time, first come, first served.
- **Energy.** Power at rest over the whole time; for every span, the active cores or the GPU, and joules for its bytes.

Everything is a function of the board, the stages and the seed. No figure from here was measured: all say ``simulated``.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from finequery.errors import NotSupportedError
from finequery.jetson import costs
from finequery.jetson.board import Board
from finequery.jetson.costs import Costs, CpuCost, Touch, Traffic, Work

__all__ = ["ENGINES", "Machine", "Solo", "Span", "Stage", "Timeline", "Touch", "Work"]

ENGINES = ("cpu", "gpu", "h2d", "d2h")
#: What others may keep busy: shares for ``Machine(load=…)``.
LOADS = ("cpu", "gpu", "memory")
_SHORTEST = 1e-12  # seconds of a batch that does nothing


@dataclass(frozen=True, slots=True)
class Solo:
    """A pipeline alone on a machine. ``joules`` counts the machine's power at rest for that time."""

    seconds: float
    compute_seconds: float  # of one core, or of the GPU: what arithmetic takes without memory
    memory_bytes: float  # traffic of the memories, after caches
    joules: float
    simulated: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """Part of a plan on one engine. Stages it waits for stand before it in the list."""

    name: str
    engine: str  # one of ENGINES
    works: tuple[Work, ...] = ()  # over all batches
    nbytes: float = 0.0  # copies: over all batches
    after: tuple[int, ...] = ()  # stages that are through before it starts
    batches: int = 1
    follows: int | None = None  # batch i starts when batch i of that stage is through
    depth: int = 2  # buffers between the two: the other is at most so many batches ahead
    fixed_seconds: float = 0.0  # before its first batch
    threads: int | None = None  # cores that it takes at most


class Span(NamedTuple):
    """A batch of a stage. ``nbytes``: its traffic of the memories; ``joules``: without the machine's rest."""

    stage: int
    batch: int
    engine: str
    start: float
    end: float
    nbytes: float
    joules: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a plan took. ``joules`` is the spans' and ``idle_joules``, the machine's power at rest."""

    seconds: float
    joules: float
    idle_joules: float
    memory_bytes: float
    utilisation: float  # memory_bytes / seconds / the memories' peak bandwidth
    spans: list[Span]
    simulated: bool = True


class Machine:
    """A board at work.

    ``load``: the share of the cores, the GPU or the memory's bandwidth that others keep busy, e.g. ``{"gpu": 0.8}``.
    ``noise``: sigma of a lognormal factor on the time of every stage, drawn from ``seed``.
    """

    def __init__(
        self,
        board: Board,
        *,
        seed: int | None = None,
        noise: float = 0.0,
        load: Mapping[str, float] = {},
        table: Costs | None = None,
    ):
        for engine, share in load.items():
            if engine not in LOADS or not 0 <= share < 1:
                raise ValueError(f"load is a share from 0 to below 1 of {', '.join(LOADS)}, not {engine!r}: {share!r}")
        self.board = board
        self.noise = noise
        self.load = dict(load)
        self.table = table or costs.load()
        self._random = random.Random(seed)
        self._cores = board.cpu.cores * (1 - load.get("cpu", 0.0))
        self._gpu_share = 1 - load.get("gpu", 0.0)
        memory, gpu_memory, h2d, d2h = costs.capacities(board)
        duplex = board.link.duplex_gbs if board.link and board.discrete else float("inf")
        rates = (memory * (1 - load.get("memory", 0.0)), gpu_memory, h2d, d2h, duplex)
        self._capacities = tuple(gbs * 1e9 for gbs in rates)

    def solo(self, works: Sequence[Work], device: str, threads: int | None = None) -> Solo:
        """Works over the same rows, fused, alone on the CPU ("cpu") or the GPU ("gpu")."""
        if device not in ("cpu", "gpu"):
            raise ValueError(f"a device is cpu or gpu, not {device!r}")
        job = self._job(Stage("solo", device, tuple(works), threads=threads))
        cores = job.wanted
        (share,) = _fair([job.demand(cores, first=True)], self._capacities)
        seconds = job.alone(cores, first=True) / share
        joules = seconds * (self.board.power.idle_w + job.watts(cores)) + job.joules
        return Solo(seconds, job.compute, job.traffic.memory + job.traffic.gpu_memory, joules)

    def run(self, stages: Sequence[Stage]) -> Timeline:
        """A plan, from the start of its first batch to the end of its last. ValueError if it cannot run."""
        _check(stages, self.board)
        jobs = [self._job(stage) for stage in stages]
        spans = _Run(stages, jobs, self.board, self._cores, self._capacities).spans()
        seconds = max((span.end for span in spans), default=0.0)
        nbytes = sum(span.nbytes for span in spans)
        idle = seconds * self.board.power.idle_w
        joules = idle + sum(span.joules for span in spans)
        used = nbytes / seconds / (self.board.peak_gbs * 1e9) if seconds else 0.0
        return Timeline(seconds, joules, idle, nbytes, used, spans)

    def _job(self, stage: Stage) -> _Job:
        """What a batch of a stage takes on this machine."""
        board, share = self.board, 1 / stage.batches
        factor = self._random.lognormvariate(0.0, self.noise) if self.noise else 1.0
        if stage.engine == "cpu":
            cpu = costs.cpu_cost(board, stage.works, self.table, share)
            wanted = cpu.threads(min(stage.threads or board.cpu.cores, self._cores))
            once = stage.fixed_seconds + cpu.fixed
            return _Job(board, Traffic(cpu.traffic), cpu.compute, wanted, factor, once, cpu=cpu)
        if stage.engine == "gpu":
            gpu = costs.gpu_cost(board, stage.works, self.table, share)
            seconds = (gpu.seconds + gpu.fixed) / self._gpu_share
            power = board.power.gpu_w * self._gpu_share
            once = stage.fixed_seconds + gpu.once
            return _Job(board, gpu.traffic, gpu.compute, 0.0, factor, once, seconds, power)
        link, nbytes = board.link, stage.nbytes * share
        if link is None:
            raise NotSupportedError(f'board "{board.name}" has no GPU to copy to or from')
        to_device = stage.engine == "h2d"
        gbs = link.h2d_gbs if to_device else link.d2h_gbs
        if board.discrete:
            traffic = Traffic(nbytes, nbytes, nbytes if to_device else 0.0, 0.0 if to_device else nbytes)
        else:
            traffic = Traffic(2 * nbytes)
        seconds = link.latency_us * 1e-6 + nbytes / 1e9 / gbs
        return _Job(board, traffic, 0.0, 0.0, factor, stage.fixed_seconds, seconds, copied=nbytes)


class _Job:
    """A batch of a stage: its time alone and what it asks for."""

    __slots__ = (
        "_cpu", "_factor", "_memo", "_seconds", "_vector", "_watts",
        "compute", "core_w", "joules", "once", "traffic", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        board: Board,
        traffic: Traffic,
        compute: float,
        wanted: float,
        factor: float,
        once: float,
        seconds: float = 0.0,
        watts: float = 0.0,
        copied: float = 0.0,
        cpu: CpuCost | None = None,
    ):
        self.traffic = traffic
        self.compute = compute
        self.wanted = wanted  # cores
        self.once = once * factor  # seconds, before the first batch
        self.core_w = board.power.core_w
        self._cpu, self._factor, self._seconds, self._watts = cpu, factor, seconds, watts
        self._vector = (*traffic, traffic.h2d + traffic.d2h)
        self._memo: dict[float, float] = {}
        self.joules = traffic.memory / 1e9 * board.memory.joules_per_gb
        if board.gpu_memory is not None:
            self.joules += traffic.gpu_memory / 1e9 * board.gpu_memory.joules_per_gb
        if board.link is not None:
            self.joules += max(copied, traffic.h2d + traffic.d2h) / 1e9 * board.link.joules_per_gb

    def alone(self, cores: float, first: bool = False) -> float:
        """Seconds on ``cores`` cores with all of the memory."""
        seconds = self._memo.get(cores)
        if seconds is None:
            plain = self._cpu.seconds(cores) if self._cpu is not None else self._seconds
            seconds = self._memo[cores] = max(plain * self._factor, _SHORTEST)
        return seconds + self.once if first else seconds

    def demand(self, cores: float, first: bool = False) -> tuple[float, ...]:
        """Bytes a second of each shared thing."""
        seconds = self.alone(cores, first)
        return tuple(nbytes / seconds for nbytes in self._vector)

    def watts(self, cores: float) -> float:
        """Power while it runs, above rest."""
        return cores * self.core_w if self._cpu is not None else self._watts


class _Run:
    """One simulation. State is in lists by stage; a running batch has a share of its work left."""

    def __init__(
        self, stages: Sequence[Stage], jobs: list[_Job], board: Board, cores: float, capacities: tuple[float, ...]
    ):
        count = len(stages)
        self.stages, self.jobs, self.cores, self.capacities = stages, jobs, cores, capacities
        one_engine = board.link is not None and board.link.copy_engines == 1
        self.server = ["h2d" if one_engine and s.engine == "d2h" else s.engine for s in stages]
        self.followers: list[list[int]] = [[] for _ in range(count)]
        self.dependents: list[list[int]] = [[] for _ in range(count)]
        for i, stage in enumerate(stages):
            if stage.follows is not None:
                self.followers[stage.follows].append(i)
            for j in set(stage.after):
                self.dependents[j].append(i)
        self.waiting = [len(set(stage.after)) for stage in stages]  # stages it is after that are not through
        self.done = [0] * count  # batches
        self.busy = [False] * count  # runs or is queued
        self.queues: dict[str, deque[int]] = {name: deque() for name in ENGINES if name != "cpu"}
        self.serving = dict.fromkeys(self.queues, False)
        self.left = [0.0] * count
        self.start = [0.0] * count
        self.joules = [0.0] * count
        self.running = 0  # bits 2i and 2i + 1: stage i runs a later batch, its first batch
        self.now = 0.0
        self.rates: dict[int, list[tuple[int, float, float]]] = {}  # by ``running``: stage, share a second, watts
        self.finished: list[Span] = []

    def spans(self) -> list[Span]:
        """All batches in the order in which they end."""
        for i in range(len(self.stages)):
            self._offer(i)
        left, joules, rates = self.left, self.joules, self.rates
        while self.running:
            pace = rates.get(self.running)
            if pace is None:
                pace = rates[self.running] = self._pace()
            step = min([left[i] / rate for i, rate, _ in pace])
            self.now += step
            ended = []
            for i, rate, watts in pace:
                joules[i] += watts * step
                left[i] -= rate * step
                if left[i] <= 1e-9:
                    ended.append(i)
            for i in ended:
                self._end(i)
        stuck = [stage.name for i, stage in enumerate(self.stages) if self.done[i] < stage.batches]
        if stuck:
            raise ValueError("the stages wait for each other: " + ", ".join(stuck))
        return self.finished

    def _offer(self, i: int) -> None:
        """Start or queue the next batch of a stage if nothing keeps it."""
        stage, batch = self.stages[i], self.done[i]
        if self.busy[i] or self.waiting[i] or batch == stage.batches:
            return
        if stage.follows is not None and self.done[stage.follows] <= batch:
            return
        for j in self.followers[i]:
            if batch - self.done[j] >= self.stages[j].depth:
                return
        self.busy[i] = True
        server = self.server[i]
        if server == "cpu":
            self._start(i)
        elif self.serving[server]:
            self.queues[server].append(i)
        else:
            self.serving[server] = True
            self._start(i)

    def _start(self, i: int) -> None:
        self.left[i], self.start[i], self.joules[i] = 1.0, self.now, 0.0
        self.running |= 1 << (2 * i + (self.done[i] == 0))

    def _end(self, i: int) -> None:
        stage, job, batch = self.stages[i], self.jobs[i], self.done[i]
        nbytes = job.traffic.memory + job.traffic.gpu_memory
        joules = self.joules[i] + job.joules
        self.finished.append(Span(i, batch, stage.engine, self.start[i], self.now, nbytes, joules))
        self.running ^= 1 << (2 * i + (batch == 0))
        self.done[i] = batch + 1
        self.busy[i] = False
        server = self.server[i]
        if server != "cpu":
            if self.queues[server]:
                self._start(self.queues[server].popleft())
            else:
                self.serving[server] = False
        self._offer(i)
        for j in self.followers[i]:
            self._offer(j)
        if stage.follows is not None:
            self._offer(stage.follows)
        if batch + 1 == stage.batches:
            for j in self.dependents[i]:
                self.waiting[j] -= 1
                self._offer(j)

    def _pace(self) -> list[tuple[int, float, float]]:
        """Progress and power of all that runs."""
        active = [
            (i, bool(self.running >> (2 * i + 1) & 1)) for i in range(len(self.stages)) if self.running >> 2 * i & 3
        ]
        level = _level([self.jobs[i].wanted for i, _ in active], self.cores)
        cores = [min(self.jobs[i].wanted, level) for i, _ in active]
        demands = [self.jobs[i].demand(k, first) for (i, first), k in zip(active, cores)]
        shares = _fair(demands, self.capacities)
        return [
            (i, share / self.jobs[i].alone(k, first), self.jobs[i].watts(k))
            for (i, first), k, share in zip(active, cores, shares)
        ]


def _level(wanted: Sequence[float], capacity: float) -> float:
    """The most that anybody gets when ``capacity`` is shared max-min fair: who wants less gets that."""
    if sum(wanted) <= capacity:
        return float("inf")
    rest, others = capacity, len(wanted)
    for want in sorted(wanted):
        if want * others >= rest:
            break
        rest -= want
        others -= 1
    return rest / others


def _fair(demands: Sequence[tuple[float, ...]], capacities: Sequence[float]) -> list[float]:
    """Share of its full pace for each demand, so that no capacity is exceeded: max-min fair, one after another."""
    shares = [1.0] * len(demands)
    for r, capacity in enumerate(capacities):
        asked = [share * demand[r] for share, demand in zip(shares, demands)]
        if sum(asked) > capacity:
            level = _level(asked, capacity)
            shares = [share if ask <= level else share * level / ask for share, ask in zip(shares, asked)]
    return shares


def _check(stages: Sequence[Stage], board: Board) -> None:
    """Refuse what has no meaning."""
    for i, stage in enumerate(stages):
        if stage.engine not in ENGINES:
            raise ValueError(f"stage {stage.name!r}: an engine is one of {', '.join(ENGINES)}, not {stage.engine!r}")
        if stage.batches < 1 or stage.depth < 1 or (stage.threads is not None and stage.threads < 1):
            raise ValueError(f"stage {stage.name!r}: batches, depth and threads are at least 1")
        if stage.nbytes < 0 or stage.fixed_seconds < 0:
            raise ValueError(f"stage {stage.name!r}: bytes and seconds are at least 0")
        for j in (*stage.after, *([stage.follows] if stage.follows is not None else [])):
            if not 0 <= j < i:
                raise ValueError(f"stage {stage.name!r} waits for stage {j}, which does not stand before it")
        if stage.follows is not None and stages[stage.follows].batches != stage.batches:
            raise ValueError(f"stage {stage.name!r} follows one of another number of batches")
        if stage.works and stage.engine in ("h2d", "d2h"):
            raise ValueError(f"stage {stage.name!r}: a copy has bytes, not works")
