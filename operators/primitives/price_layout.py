"""Where the numbers stand that the pricing kernels read: who packs them and who reads them both go by these names.

No kernels here, and no Numba: perfmodel and planner import this at run time.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

#: A sub-task: the numbers of perfmodel.features.Features, in its order.
SUBTASK = (
    *("rows", "rows_out", "bytes_in", "bytes_out", "random_width", "table_bytes", "selectivity", "match_rate"),
    *("distinct", "groups", "nulls", "skew", "steps", "columns", "wide", "floats", "strings"),
)
#: A model (a kind with its algorithm): its coefficients in the cost table, whether it grows with n log n, and whether
#: it looks up in a table that was built; by device the number of its regressor (-1: none) and ln of what was learned
#: from runs.
MODEL = (
    *("row", "step", "vector", "random", "serial", "fixed_us", "gpu_row", "gpu_step", "small", "large", "sorts"),
    *("looks_up", "cpu_regressor", "gpu_regressor", "cpu_factor", "gpu_factor"),
)
#: A variant: 0 for the CPU or 1 for the GPU, threads, share of the rows, what others keep busy; the clock in GHz and
#: log2 of the bytes of the caches, as a regressor reads them.
VARIANT = ("device", "threads", "share", "load", "clock_ghz", "first", "second", "last")
#: A board, in bytes, seconds, joules and their quotients unless said otherwise, and constants of the formulas. What a
#: pipeline may stream out of is a ``cache``, of -1 bytes where nothing is cached.
BOARD = (
    *("cores", "speed", "vector_speed", "reference_hz", "parallelism", "l1_bytes", "l2_bytes", "l3_bytes"),
    *("l1_ns", "l2_ns", "l3_ns", "memory_ns", "line_bytes", "gain", "thread_rate", "all_rate", "cached_rate"),
    *("cpu_cache", "cpu_overlap", "core_w", "joules_a_byte", "morsel", "line", "tile"),
    *("lanes_hz", "full_rows", "gpu_l2_bytes", "gpu_cache", "gpu_rate", "gpu_bus_rate", "gpu_cached_random"),
    *("gpu_random", "gpu_atomics", "sector_bytes", "gpu_overlap", "gpu_w", "gpu_joules_a_byte"),
    *("own_bytes", "l2_sector", "l2_speedup"),
)
#: What composing candidates and plans of them needs to know of a site: seconds that a batch on the GPU costs, the
#: factor by which others slow that, watts at rest, bytes a second of a memory that both devices share (infinite: none),
#: seconds a byte of tables that both look up in; of a link to a discrete GPU (0: none, or nothing to copy) seconds a
#: byte each way, of a copy, joules a byte; whether base columns are copied, in how many batches, of how many bytes at
#: least; whether results are copied between devices, both ways by one engine; cores, and rows that one takes at a time.
SITE = (
    *("once", "slowed", "idle_w", "peak", "coherence", "h2d", "d2h", "latency", "link_joules"),
    *("cold", "batches", "least_batch", "discrete", "one_engine", "cores", "morsel"),
)
#: A pipeline to be placed. Its sub-tasks, from ``first`` to before ``end``; whether it may run on the CPU and on the
#: GPU, and whether its rows may be shared out; whether its breaker's work can be then. Rows of its source, bytes of
#: stored columns and of what it hands on; of merging what both devices made, where the breaker's work is shared,
#: seconds, bytes and joules.
PART = (
    *("first", "end", "on_cpu", "on_gpu", "split", "shared_end", "rows", "base_bytes", "result_bytes"),
    *("merge_seconds", "merge_bytes", "merge_joules"),
)
#: A place where a pipeline may be cut into two phases: the pipeline, the step of its task and the sub-task of the
#: pipeline before which it is, the one that writes down what is handed on, and bytes of that. Those of a pipeline stand
#: together, in its order.
CUT = ("part", "step", "before", "handed", "nbytes")
#: A way to run a pipeline. Prices that it is made of, by number: a first one, a first one of the GPU, what comes when
#: both are through; ``out``: its first row of the result. Bytes: base columns, tables that are looked up in, what is
#: handed on. Seconds that the host pays once, not for every batch, for what is done on the CPU and on the GPU. The step
#: before which it is cut.
WAY = ("kind", "first", "gpu", "end", "out", "base_bytes", "table_bytes", "passed_bytes", "once", "gpu_once", "cut")
#: ``WAY.kind``: one device; rows shared out; cut into two phases, by the device of the first one.
ON_CPU, ON_GPU, SHARED, CPU_FIRST, GPU_FIRST = range(5)
#: A row of the result: what a candidate takes, the GPU's share of rows or the number of batches (-1: no candidate), its
#: kind and the step before which it is cut.
CANDIDATE = ("seconds", "low", "high", "nbytes", "joules", "choice", "kind", "cut")
#: How plans are compared: 0 by time, 1 by energy, 2 by their product; what a plan on both devices has to gain on one
#: alone, and how far its worst may lie above that one's; whether branches may run beside each other, the share of the
#: time that has to be off the longest chain for that to be looked at, what a move has to gain, and rounds of moves.
RULE = ("objective", "gain", "margin", "along", "least_slack", "least_gain", "rounds")
#: A way to run a pipeline, where plans with branches beside each other are compared: seconds and bytes alone, cores; by
#: ``NEEDS`` the devices that it runs on, and the one that has its result; seconds in which columns are copied first,
#: in which the host prepares and finishes it, while others have the cores, and the pieces, up to eight, that columns
#: are copied in.
OPTION = ("seconds", "nbytes", "cores", "needs", "held", "copying", "once", "pieces")
#: ``OPTION.needs``, and the first two ``OPTION.held``.
NEEDS_CPU, NEEDS_GPU, NEEDS_BOTH = range(3)
#: Bits of what is done by one task at a time: the GPU, and the copies to and from a discrete one.
GPU, H2D, D2H = 1, 2, 4


def offers_scratch(subtasks: int, parts: int, cuts: int, variants: int, shares: int, counts: int) -> int:
    """Words that ``price_offers`` needs room for: lists of jobs and ways, prices, and what ``price_subtasks`` needs."""
    pipelines, jobs = 3 * parts + 2 * cuts, parts * (3 + 2 * shares) + 4 * cuts * counts
    lists = subtasks * (3 + cuts) + pipelines + 1 + 2 * jobs + pipelines * len(WAY)
    return lists + 5 * (jobs + parts) + pricing_scratch(subtasks, variants)


def pricing_scratch(subtasks: int, variants: int) -> int:
    """Words that ``price_subtasks`` needs room for."""
    return 12 * subtasks + 6 * subtasks * variants + 15 * variants


def plan_scratch(parts: int, reads: int) -> int:
    """Words that ``choose_plan`` needs room for: the search, the moves of branches, and ``run_beside``."""
    moves = 11 + parts * (25 + 4 * len(OPTION) + parts + 3 * (parts + 11))
    return 12 * parts + 25 * reads + 2 + moves + beside_scratch(parts, reads)


def beside_scratch(parts: int, reads: int) -> int:
    """Words that ``run_beside`` needs room for."""
    return 225 * parts + 9 * reads + 24


def places(names: tuple[str, ...], kind: type = int) -> Any:
    """A tuple whose field of each name is its place among them."""
    return namedtuple("Places", names)(*map(kind, range(len(names))))  # type: ignore[misc]  # noqa: PYI024
