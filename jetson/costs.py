"""What a piece of work takes alone: the formula, and the table of its coefficients.

A piece of work is described by its rows and by the memory it touches, not by what it computes: ``Work.kind`` is a key
into ``boards/costs.toml``. A pipeline is a sequence of works over the same rows that run fused; its times add up.

On the CPU, with n threads (``CpuCost``)::

    C = Σ works  rows · (row + step · steps) cycles / speed  +  random · Σ accesses · latency / parallelism
    S = bytes streamed from memory / min(n · thread_gbs, all_gbs)  +  bytes streamed from L3 / (n · cached_gbs)
    P = C · (serial + (1 - serial) / (1 + (n - 1) · gain))
    t = fixed / speed + max(max(P, S) + (1 - cpu_overlap) · min(P, S),  memory traffic / all_gbs)

``row``, ``step``, ``random``, ``serial`` and ``fixed_us`` are the kind's; cycles count at the reference core's clock
and are divided by the board's ``speed`` or ``vector_speed``, as the kind's share of vectorised code says. The latency
is the mean over the caches by the share of the working set each one holds. ``terms`` gives C in its parts, for fitting.
What a pipeline streams comes from L3 (on a GPU: from L2) if all of it together fits there (``fits``): columns that are
read side by side push each other out.

On the GPU (``gpu_cost``), with I issue slots, A atomic updates, and streamed and random accesses by kind of memory::

    K = I / (sms · lanes · mhz)
    M = Σ bytes / gbs  +  Σ accesses · (hit / cached_random + miss / device_random)
    U = A / min(cached_random, atomics · sectors of the structures that are updated)
    t = launch + sync + maintenance
        + max(longest of K, M, U + (1 - gpu_overlap) · (the other two),  memory traffic / shared_gbs)

K counts more for fewer rows than the lanes can hide latency with. The first line of t is paid for every batch. Before
the first batch comes ``fixed / speed`` of the CPU's entries: what the host does for a sub-task (its arguments, its
structures, its results) is the same code wherever the kernel runs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

from finequery.errors import NotSupportedError, OperationalError
from finequery.jetson import board as boards
from finequery.jetson.board import Board, Cpu, Gpu

_Entry = TypeVar("_Entry")

#: Rows that a thread takes at a time: fewer keep fewer threads busy.
MORSEL = 65_536
#: Rows per multiprocessor below which a GPU does not hide its latencies.
FULL_SM = 1_024
#: How much faster than memory L2 streams.
L2_SPEEDUP = 2.0
#: Kinds of memory that a GPU reaches.
GPU_MEMORY = ("mapped", "managed", "device")
#: Bytes of a GPU's L2 that take one atomic update at a time.
L2_SECTOR = 32


@dataclass(frozen=True, slots=True)
class Touch:
    """Memory that a piece of work touches: ``nbytes`` in accesses of ``width``, streamed or at random.

    ``working_set`` is the bytes of the structure that is touched at random; of streamed memory, bytes that were used
    just before and are still cached if they fit there with all others that the pipeline streams (0: it comes from
    memory).
    """

    nbytes: float
    width: float = 8.0
    random: bool = False
    write: bool = False
    working_set: float = 0.0
    memory: str = "mapped"


@dataclass(frozen=True, slots=True)
class Work:
    """One sub-task's work on one device. ``kind`` is "kind" or "kind:algorithm"."""

    kind: str
    rows: float
    steps: float = 1.0  # arithmetic steps a row
    touches: tuple[Touch, ...] = ()
    atomics: float = (
        0.0  # atomic updates on a GPU, of what its touches write at random (of one place if there are none)
    )


@dataclass(frozen=True, slots=True)
class CpuEntry:
    """A kind's coefficients on the CPU; units as in costs.toml."""

    row: float
    step: float
    vector: float
    random: float
    serial: float
    fixed_us: float


@dataclass(frozen=True, slots=True)
class GpuEntry:
    """A kind's coefficients on the GPU: issue slots of a lane."""

    row: float
    step: float


@dataclass(frozen=True, slots=True)
class Costs:
    """The table. ``sources`` by path, as a board's."""

    cpu: Mapping[str, CpuEntry]
    gpu: Mapping[str, GpuEntry]
    cpu_overlap: float
    gpu_overlap: float
    reference_mhz: float
    sources: Mapping[str, str]


@functools.cache
def load() -> Costs:
    """The table of ``boards/costs.toml``. OperationalError if it is damaged."""
    return parse(boards.read_toml(boards.FOLDER / "costs.toml"))


def parse(document: Mapping[str, Any]) -> Costs:
    """The table of a document that was read from TOML."""
    sources: dict[str, str] = {}

    def number(path: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise _damaged(f"{path} must be a number from 0 on")
        return float(value)

    def table(section: str, kind: type) -> dict[str, Any]:
        names = [f.name for f in fields(kind)]
        entries: dict[str, Any] = {}
        for key, entry in document.get(section, {}).items():
            path = f"{section}.{key}"
            if not isinstance(entry, dict) or set(entry) != {*names, "source"}:
                raise _damaged(f"{path} must have {', '.join(names)} and source")
            sources[path] = _source(path, entry)
            entries[key] = kind(**{name: number(f"{path}.{name}", entry[name]) for name in names})
        if "default" not in entries:
            raise _damaged(f"{section} has no default")
        return entries

    model: dict[str, float] = {}
    for name in ("cpu_overlap", "gpu_overlap"):
        entry = document.get("model", {}).get(name)
        if not isinstance(entry, dict) or "value" not in entry:
            raise _damaged(f"model.{name} is missing")
        sources[f"model.{name}"] = _source(f"model.{name}", entry)
        model[name] = number(f"model.{name}", entry["value"])
        if not 0 < model[name] <= 1:
            raise _damaged(f"model.{name} is a share above 0, up to 1")
    cpu, gpu = table("cpu", CpuEntry), table("gpu", GpuEntry)
    for key, entry in cpu.items():
        if entry.vector > 1 or entry.serial > 1:
            raise _damaged(f"cpu.{key}: vector and serial are shares, and one is above 1")
    return Costs(
        cpu,
        gpu,
        model["cpu_overlap"],
        model["gpu_overlap"],
        boards.load(boards.REFERENCE).cpu.mhz,
        sources,
    )


def _source(path: str, entry: Mapping[str, Any]) -> str:
    source = entry.get("source")
    if not isinstance(source, str) or len(source.strip()) < 3:
        raise _damaged(f"{path} has no source")
    return source


def _damaged(what: str) -> OperationalError:
    return OperationalError(f"the cost table costs.toml is damaged: {what}")


class Traffic(NamedTuple):
    """Bytes over what is shared: the host's (or only) memory, a discrete GPU's own, and the link's two directions."""

    memory: float = 0.0
    gpu_memory: float = 0.0
    h2d: float = 0.0
    d2h: float = 0.0


class Terms(NamedTuple):
    """One work on one core of a board, in seconds and bytes."""

    compute: float
    random: float
    streamed: float  # bytes from memory
    reused: float  # bytes from L3, if ``working_set`` fits there with that of the works beside it; else from memory
    working_set: float  # bytes that those are read from
    missed: float  # bytes of lines that random accesses fetch from memory


@dataclass(frozen=True, slots=True)
class CpuCost:
    """What a pipeline takes on a board's cores; ``seconds`` for a number of threads."""

    cpu: Cpu
    overlap: float
    rows: float
    parallel: float  # core-seconds that threads share
    serial: float  # core-seconds of one thread
    compute: float  # of both, without random accesses
    streamed: float  # bytes from memory
    cached: float  # bytes from L3
    traffic: float  # bytes over the memory's bus
    fixed: float  # seconds, paid once

    def threads(self, n: float) -> float:
        """How many of ``n`` threads find rows."""
        return min(n, max(1.0, self.rows / MORSEL))

    def seconds(self, n: float) -> float:
        """Time with ``n`` threads (a fraction of a core counts), without what is paid once."""
        n = self.threads(n)
        busy = self.serial + self.parallel / (1 + (n - 1) * self.cpu.gain)
        stream = self.streamed / 1e9 / min(n * self.cpu.thread_gbs, self.cpu.all_gbs)
        stream += self.cached / 1e9 / (n * self.cpu.cached_gbs)
        mixed = max(busy, stream) + (1 - self.overlap) * min(busy, stream)
        return max(mixed, self.traffic / 1e9 / self.cpu.all_gbs)


@dataclass(frozen=True, slots=True)
class GpuCost:
    """What a pipeline takes on a board's GPU."""

    seconds: float  # without what a batch pays
    compute: float
    traffic: Traffic
    fixed: float  # launch, synchronisation, maintenance of managed memory: of every batch
    once: float  # seconds of the host, before the first batch


def latency_ns(cpu: Cpu, working_set: float) -> tuple[float, float]:
    """Mean latency of a random access to a structure of ``working_set`` bytes, and the share that misses all caches."""
    if working_set <= cpu.l1_bytes:
        return cpu.l1_ns, 0.0
    mean, covered = 0.0, 0.0
    for nbytes, ns in ((cpu.l1_bytes, cpu.l1_ns), (cpu.l2_bytes, cpu.l2_ns), (cpu.l3_bytes, cpu.l3_ns)):
        share = min(1.0, nbytes / working_set)
        if share > covered:
            mean += (share - covered) * ns
            covered = share
    return mean + (1.0 - covered) * cpu.memory_ns, 1.0 - covered


def fits(working_set: Any, cache: float) -> Any:
    """Whether what a pipeline streams, ``working_set`` bytes of all its works together (or an array of such), comes out
    of a cache that they went through before: passes over more than it holds find nothing of the last one there."""
    return working_set <= cache


def terms(board: Board, work: Work, costs: Costs | None = None) -> Terms:
    """The parts of the CPU's formula for one work: what its coefficients are multiplied with is linear in them."""
    costs = costs or load()
    cpu, entry = board.cpu, cpu_entry(costs, work.kind)
    slowness = entry.vector / cpu.vector_speed + (1 - entry.vector) / cpu.speed
    cycles = work.rows * (entry.row + entry.step * work.steps)
    random = streamed = reused = working_set = missed = 0.0
    for touch in work.touches:
        if touch.random:
            accesses = touch.nbytes / touch.width
            ns, misses = latency_ns(cpu, touch.working_set)
            random += accesses * ns / cpu.parallelism
            missed += accesses * misses * max(cpu.line_bytes, touch.width)
        elif touch.working_set:
            reused += touch.nbytes
            working_set += touch.working_set
        else:
            streamed += touch.nbytes
    compute = cycles / (costs.reference_mhz * 1e6) * slowness
    return Terms(compute, random * 1e-9 * entry.random, streamed, reused, working_set, missed)


def cpu_cost(board: Board, works: Sequence[Work], costs: Costs, share: float = 1.0) -> CpuCost:
    """A pipeline on the CPU; ``share`` of its rows and bytes."""
    parallel = serial = compute = streamed = reused = working_set = missed = rows = 0.0
    for work in works:
        entry = cpu_entry(costs, work.kind)
        part = terms(board, work, costs)
        core = part.compute + part.random
        serial += core * entry.serial
        parallel += core * (1 - entry.serial)
        compute += part.compute
        streamed += part.streamed
        reused += part.reused
        working_set += part.working_set
        missed += part.missed
        rows = max(rows, work.rows)
    cached = reused if fits(working_set, board.cpu.l3_bytes) else 0.0
    streamed += reused - cached
    return CpuCost(
        board.cpu,
        costs.cpu_overlap,
        rows * share,
        parallel * share,
        serial * share,
        compute * share,
        streamed * share,
        cached * share,
        (streamed + missed) * share,
        host_seconds(board, [work.kind for work in works], costs),
    )


def host_seconds(board: Board, kinds: Iterable[str], costs: Costs) -> float:
    """What the host pays once for sub-tasks, however many rows and batches there are, and wherever they run."""
    return sum(cpu_entry(costs, kind).fixed_us for kind in kinds) * 1e-6 / board.cpu.speed


def gpu_cost(board: Board, works: Sequence[Work], costs: Costs, share: float = 1.0) -> GpuCost:
    """A pipeline on the GPU; ``share`` of its rows and bytes in one batch.

    Raises NotSupportedError where the board has no GPU, or the GPU does not reach the memory.
    """
    gpu = board.gpu
    if gpu is None:
        raise NotSupportedError(
            f'board "{board.name}" has no GPU', hint="Boards with one: " + ", ".join(_with_gpu()) + "."
        )
    slots = conflicts = rows = memory = maintained = 0.0
    moved = [0.0] * len(Traffic._fields)
    streams = [t for work in works for t in work.touches if not t.random and t.memory != "mapped"]
    cached = fits(sum(t.working_set for t in streams), gpu.l2_bytes)
    for work in works:
        entry = gpu_entry(costs, work.kind)
        slots += work.rows * (entry.row + entry.step * work.steps)
        updated = sum(touch.working_set for touch in work.touches if touch.random and touch.write)
        conflicts += work.atomics / min(gpu.cached_random, gpu.atomics * max(1.0, updated / L2_SECTOR))
        rows = max(rows, work.rows)
        for touch in work.touches:
            carriers = _carriers(board, touch)
            seconds, nbytes = _touched(gpu, touch, cached)
            memory += seconds
            if touch.memory == "managed":
                maintained += touch.working_set if touch.random else touch.nbytes * share
            for at in carriers:
                moved[at] += nbytes
    filled = min(1.0, max(rows * share, 32.0) / (gpu.sms * FULL_SM))
    compute = slots * share / (gpu.sms * gpu.lanes * gpu.mhz * 1e6 * filled)
    memory, waiting = memory * share, conflicts / 1e9 * share
    total, longest = compute + memory + waiting, max(compute, memory, waiting)
    traffic = Traffic(*(nbytes * share for nbytes in moved))
    least = max(nbytes / 1e9 / gbs for nbytes, gbs in zip(traffic, capacities(board)))
    fixed = gpu.launch_us + gpu.sync_us + maintained / 1e6 * gpu.maintenance_us_per_mb
    seconds = max(longest + (1 - costs.gpu_overlap) * (total - longest), least)
    return GpuCost(seconds, compute, traffic, fixed * 1e-6, host_seconds(board, [work.kind for work in works], costs))


def _touched(gpu: Gpu, touch: Touch, reused: bool) -> tuple[float, float]:
    """Seconds that the GPU's memory pipes take for a touch, and the bytes that come past L2. ``reused``: what was used
    just before and is streamed is still in L2."""
    cached = touch.memory != "mapped"
    if not touch.random:
        gbs = {"device": gpu.device_gbs, "managed": gpu.managed_gbs, "mapped": gpu.mapped_gbs}[touch.memory]
        if cached and reused and touch.working_set:
            return touch.nbytes / 1e9 / (gbs * L2_SPEEDUP), 0.0
        return touch.nbytes / 1e9 / gbs, touch.nbytes
    accesses = touch.nbytes / touch.width
    hit = 0.0
    if cached:
        hit = min(1.0, gpu.l2_bytes / touch.working_set) if touch.working_set > 0 else 1.0
    misses = gpu.device_random if cached else gpu.mapped_random
    seconds = accesses / 1e9 * (hit / gpu.cached_random + (1 - hit) / misses)
    return seconds, accesses * (1 - hit) * max(gpu.sector_bytes, touch.width)


def _carriers(board: Board, touch: Touch) -> tuple[int, ...]:
    """What a touch's bytes move over on their way to the GPU, as places in Traffic."""
    if touch.memory not in GPU_MEMORY:
        raise NotSupportedError(
            f"the GPU does not reach {touch.memory} memory", hint="Mapped, managed or device memory."
        )
    if not board.discrete:
        return (0,)
    if touch.memory == "mapped":
        return (0, 3 if touch.write else 2)
    return (1,)


def capacities(board: Board) -> tuple[float, float, float, float]:
    """GB/s of what ``Traffic`` counts; what a board does not have gives everything."""
    own = board.gpu_memory.shared_gbs if board.gpu_memory else float("inf")
    if board.link is None or not board.discrete:
        return board.memory.shared_gbs, own, float("inf"), float("inf")
    return board.memory.shared_gbs, own, board.link.h2d_gbs, board.link.d2h_gbs


def cpu_entry(costs: Costs, kind: str) -> CpuEntry:
    """A kind's coefficients; "kind:algorithm:variant" falls back to "kind:algorithm", that to "kind", and that to
    "default"."""
    return _entry(costs.cpu, kind)


def gpu_entry(costs: Costs, kind: str) -> GpuEntry:
    """As cpu_entry."""
    return _entry(costs.gpu, kind)


def _entry(table: Mapping[str, _Entry], kind: str) -> _Entry:
    while kind not in table:
        kind = kind.rpartition(":")[0] or "default"
    return table[kind]


def _with_gpu() -> list[str]:
    return [name for name in boards.names() if boards.load(name).gpu is not None]
