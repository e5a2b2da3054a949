"""Analytic prices: the fall-back where nothing was learned, and what learned models are factors of.

The formula is that of jetson/costs.py, which the board simulator runs on: computing, streaming and random accesses from
the board's numbers, overlapped as its table says. Here it is written over arrays, for all sub-tasks in all variants at
once; ``tests/test_analytic.py`` holds both to the same seconds. A sub-task is priced as a pipeline of its own, though
without what every batch on the GPU pays once (launch and synchronisation: ``Analytic.batch_seconds``).

Columns and results lie in the memory that the device streams best from (mapped on an integrated board, device memory on
a discrete GPU, where they are supposed to be resident: perfmodel/compose.py prices copies), tables of the GPU in device
memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from finequery.errors import NotSupportedError
from finequery.jetson import board as boards
from finequery.jetson import costs
from finequery.jetson.board import Board
from finequery.perfmodel.batch import Batch, kind_of
from finequery.perfmodel.trees import Floats

#: Kinds whose threads add to the same table.
_ATOMIC = frozenset(["build", "aggregate"])
_CPU = attrgetter("row", "step", "vector", "random", "serial", "fixed_us")
_GPU = attrgetter("row", "step")


@dataclass(frozen=True, slots=True, eq=False)
class Analysed:
    """Arrays that broadcast to (sub-tasks, variants): seconds, bytes over the memory's bus, watts while it runs (above
    rest), and the joules of a byte of traffic."""

    seconds: Floats
    nbytes: Floats
    watts: Any
    joules_a_byte: float


class Analytic:
    """Prices from a board's numbers; None: of the machine that runs, as far as the system tells them."""

    def __init__(self, board: Board | None = None):
        self.board = boards.host() if board is None else board
        self.source = f"analytic prices of {self.board.title} (no fitted model)"
        self._costs = costs.load()

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

    def price(self, batch: Batch, device: str, threads: Any, share: Any = 1.0, load: Any = 0.0) -> Analysed:
        """Prices of (sub-tasks, variants); ``threads``, ``share`` and ``load`` broadcast to that.

        Others keep ``load`` of the device busy: of the cores, of which what is left is shared by the threads; of the
        GPU's time. Raises NotSupportedError for a device that the board does not have."""
        load = np.minimum(np.asarray(load, np.float64), 0.99)
        if device == "cpu":
            return self._cpu(batch, np.minimum(threads, self.board.cpu.cores * (1.0 - load)), share)
        if device == "gpu" and self.board.gpu is not None:
            return self._gpu(batch, self.board.gpu, share, load)
        raise NotSupportedError(f'there is no device "{device}" on {self.board.title}')

    def _cpu(self, batch: Batch, threads: Any, share: Any) -> Analysed:
        cpu, table = self.board.cpu, self._costs
        row, step, vector, factor, serial, fixed = batch.by_model(lambda m: _CPU(costs.cpu_entry(table, m)))
        rows = batch["rows"]
        slowness = vector / cpu.vector_speed + (1.0 - vector) / cpu.speed
        core = rows * (row + step * batch["steps"]) * slowness / (table.reference_mhz * 1e6)
        accesses = np.where(batch["random_width"] > 0, rows, 0.0)
        ns, misses = self._latency(batch["table_bytes"])
        core = core + accesses * ns / cpu.parallelism * 1e-9 * factor
        missed = accesses * misses * np.maximum(cpu.line_bytes, batch["random_width"])
        streamed = cached = np.zeros_like(rows)
        for width in ("bytes_in", "bytes_out"):
            nbytes = rows * batch[width]
            near = nbytes <= cpu.l3_bytes
            streamed, cached = streamed + np.where(near, 0.0, nbytes), cached + np.where(near, nbytes, 0.0)
        n = np.minimum(threads, np.maximum(rows * share / costs.MORSEL, 1.0))
        busy = (core * serial + core * (1.0 - serial) / n) * share
        stream = streamed * share / 1e9 / np.minimum(n * cpu.thread_gbs, cpu.all_gbs)
        stream = stream + cached * share / 1e9 / (n * cpu.cached_gbs)
        traffic = (streamed + missed) * share
        mixed = np.maximum(busy, stream) + (1.0 - table.cpu_overlap) * np.minimum(busy, stream)
        seconds = np.maximum(mixed, traffic / 1e9 / cpu.all_gbs) + fixed * 1e-6 / cpu.speed
        return Analysed(seconds, traffic, self.board.power.core_w * n, self.board.memory.joules_per_gb / 1e9)

    def _latency(self, working_set: Floats) -> tuple[Floats, Floats]:
        """costs.latency_ns: mean nanoseconds of a random access, and the share that misses all caches."""
        cpu = self.board.cpu
        size = np.maximum(working_set, 1.0)
        mean, covered = np.zeros_like(size), np.zeros_like(size)
        for nbytes, ns in ((cpu.l1_bytes, cpu.l1_ns), (cpu.l2_bytes, cpu.l2_ns), (cpu.l3_bytes, cpu.l3_ns)):
            share = np.maximum(np.minimum(1.0, nbytes / size), covered)
            mean, covered = mean + (share - covered) * ns, share
        return mean + (1.0 - covered) * cpu.memory_ns, 1.0 - covered

    def _gpu(self, batch: Batch, gpu: boards.Gpu, share: Any, load: Any) -> Analysed:
        table, discrete = self._costs, self.board.discrete
        row, step = batch.by_model(lambda m: _GPU(costs.gpu_entry(table, m)))
        rows = batch["rows"]
        instructions = rows * (row + step * batch["steps"])
        atomics = rows * batch.by_model(lambda m: kind_of(m) in _ATOMIC and m != "aggregate:runs")
        gbs = gpu.device_gbs if discrete else gpu.mapped_gbs
        streaming = moved = np.zeros_like(rows)
        for width in ("bytes_in", "bytes_out"):
            nbytes = rows * batch[width]
            hot = (
                (nbytes <= gpu.l2_bytes) if discrete else np.zeros_like(nbytes, np.bool_)
            )  # mapped memory is not cached
            streaming = streaming + nbytes / gbs * np.where(hot, 0.5, 1.0)
            moved = moved + np.where(hot, 0.0, nbytes)
        accesses = np.where(batch["random_width"] > 0, rows, 0.0)
        hit = np.minimum(1.0, gpu.l2_bytes / np.maximum(batch["table_bytes"], 1.0))
        random = accesses * (hit / gpu.cached_random + (1.0 - hit) / gpu.device_random)
        moved = moved + accesses * (1.0 - hit) * np.maximum(gpu.sector_bytes, batch["random_width"])
        filled = np.minimum(1.0, np.maximum(rows * share, 32.0) / (gpu.sms * costs.FULL_SM))
        compute = instructions * share / (gpu.sms * gpu.lanes * gpu.mhz * 1e6 * filled)
        memory, conflicts = (streaming + random) * share / 1e9, atomics * share / (gpu.atomics * 1e9)
        longest = np.maximum(np.maximum(compute, memory), conflicts)
        rest = compute + memory + conflicts - longest
        own = self.board.gpu_memory or self.board.memory
        least = moved * share / 1e9 / own.shared_gbs
        seconds = np.maximum(longest + (1.0 - table.gpu_overlap) * rest, least) / (1.0 - load)
        return Analysed(seconds, moved * share, self.board.power.gpu_w, own.joules_per_gb / 1e9)
