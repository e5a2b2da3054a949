"""Analytic prices: the fall-back where nothing was learned, and what learned models are factors of.

The formula is that of jetson/costs.py, which the board simulator runs on: computing, streaming and random accesses from
the board's numbers, overlapped as its table says. Here it is written over arrays, for all sub-tasks in all variants at
once; ``tests/test_analytic.py`` holds both to the same seconds. ``terms`` are what adds up over the sub-tasks of a
pipeline; ``seconds`` makes time of them: of a sub-task alone, or of a fused pipeline, in which the streaming of one
hides behind the arithmetic of another, and what one streams pushes out of the caches what another one does. What every
batch on the GPU pays once (launch and synchronisation) is not in them: ``Analytic.batch_seconds``.

Columns and results lie in the memory that the device streams best from (mapped on an integrated board, device memory on
a discrete GPU, where they are supposed to be resident: perfmodel/compose.py prices copies), tables of the GPU in device
memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from finequery.errors import NotSupportedError
from finequery.jetson import board as boards
from finequery.jetson import costs
from finequery.jetson.board import Board
from finequery.perfmodel.batch import Batch
from finequery.perfmodel.trees import Floats
from finequery.perfmodel.work import LINE, OWN_BYTES, updates_atomically

_CPU = attrgetter("row", "step", "vector", "random", "serial", "fixed_us")
_GPU = attrgetter("row", "step")


@dataclass(frozen=True, slots=True, eq=False)
class Analysed:
    """Arrays that broadcast to (items, variants): seconds, bytes over the memory's bus, watts while it runs (above
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
        cpu = self.board.cpu
        self._held = np.maximum.accumulate([cpu.l1_bytes, cpu.l2_bytes, cpu.l3_bytes])
        self._faster = -np.diff([cpu.l1_ns, cpu.l2_ns, cpu.l3_ns, cpu.memory_ns])  # a level than the next

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
        """Prices of each sub-task alone, as (sub-tasks, variants); ``threads``, ``share`` and ``load`` broadcast to
        that. Raises NotSupportedError for a device that the board does not have."""
        return self.seconds(device, self.terms(batch, device), batch["rows"], threads, share, load)

    def terms(self, batch: Batch, device: str) -> Floats:
        """What adds up over the sub-tasks of a fused pipeline, as (terms, sub-tasks, 1)."""
        if device == "cpu":
            return self._cpu_terms(batch)
        if device == "gpu" and self.board.gpu is not None:
            return self._gpu_terms(batch, self.board.gpu)
        raise NotSupportedError(f'there is no device "{device}" on {self.board.title}')

    def seconds(
        self, device: str, terms: Floats, rows: Floats, threads: Any, share: Any = 1.0, load: Any = 0.0
    ) -> Analysed:
        """Time of ``terms``, where ``rows`` are the most that one of their sub-tasks has. Others keep ``load`` of the
        device busy: of the cores, of which what is left is shared by the threads; of the GPU's time."""
        load = np.minimum(np.asarray(load, np.float64), 0.99)
        if device == "cpu":
            return self._cpu_seconds(
                terms, rows * share, np.minimum(threads, self.board.cpu.cores * (1.0 - load)), share
            )
        assert self.board.gpu is not None
        return self._gpu_seconds(self.board.gpu, terms, rows * share, share, load)

    def traffic(self, device: str, terms: Floats, whole: Floats) -> Floats:
        """Bytes over the memory's bus of ``terms`` in a pipeline whose terms are ``whole``: without those streamed out
        of a cache, which all that the pipeline streams fits in."""
        *_, streamed, missed = terms
        return streamed - self._reused(device, streamed, whole[-2]) + missed

    def _reused(self, device: str, streamed: Floats, together: Floats) -> Any:
        """What is streamed out of a cache of ``streamed`` bytes, where those of its pipeline are ``together``. A GPU
        caches its own memory, not mapped memory."""
        gpu = self.board.gpu
        if device == "cpu":
            return streamed * costs.fits(together, self.board.cpu.l3_bytes)
        return streamed * costs.fits(together, gpu.l2_bytes) if gpu is not None and self.board.discrete else 0.0

    # --- the CPU ------------------------------------------------------------------------------------------------------

    def _cpu_terms(self, batch: Batch) -> Floats:
        """Core-seconds that threads share, those of one thread, seconds paid once; bytes streamed, and bytes of lines
        that random accesses fetch."""
        cpu, table = self.board.cpu, self._costs
        row, step, vector, factor, serial, fixed = batch.by_model(lambda m: _CPU(costs.cpu_entry(table, m)))
        rows, width = batch["rows"], batch["random_width"]
        slowness = vector / cpu.vector_speed + (1.0 - vector) / cpu.speed
        ns, misses = self._latency(batch["table_bytes"])
        accesses = rows * np.maximum(width * (1.0 / LINE), width > 0)
        core = rows * (row + step * batch["steps"]) * slowness / (table.reference_mhz * 1e6)
        core += accesses * ns * factor * (1e-9 / cpu.parallelism)
        out = np.empty((5, *rows.shape))
        np.multiply(core, 1.0 - serial, out=out[0])
        np.multiply(core, serial, out=out[1])
        np.multiply(fixed, 1e-6 / cpu.speed, out=out[2])
        np.multiply(rows, batch["bytes_in"] + batch["bytes_out"], out=out[3])
        np.multiply(accesses * misses, np.maximum(cpu.line_bytes, np.minimum(width, LINE)), out=out[4])
        return out

    def _latency(self, working_set: Floats) -> tuple[Floats, Floats]:
        """costs.latency_ns: mean nanoseconds of a random access, and the share that misses all caches."""
        held = np.minimum(1.0, self._held / np.maximum(working_set, 1.0))  # (sub-tasks, levels)
        return self.board.cpu.memory_ns + (held @ self._faster)[:, None], 1.0 - held[:, 2:]

    def _cpu_seconds(self, terms: Floats, rows: Floats, threads: Any, share: Any) -> Analysed:
        cpu = self.board.cpu
        parallel, serial, fixed, streamed, _ = terms
        n = np.minimum(threads, np.maximum(rows * (1.0 / costs.MORSEL), 1.0))
        busy = serial + parallel / (1.0 + (n - 1.0) * cpu.gain)
        cached = self._reused("cpu", streamed, streamed)
        stream = ((streamed - cached) * 1e-9) / np.minimum(n * cpu.thread_gbs, cpu.all_gbs)
        stream += (cached * (1e-9 / cpu.cached_gbs)) / n
        mixed = np.maximum(busy, stream) + (1.0 - self._costs.cpu_overlap) * np.minimum(busy, stream)
        traffic = self.traffic("cpu", terms, terms)
        seconds = np.maximum(mixed, traffic * (1e-9 / cpu.all_gbs)) * share + fixed
        return Analysed(seconds, traffic * share, self.board.power.core_w * n, self.board.memory.joules_per_gb / 1e9)

    # --- the GPU ------------------------------------------------------------------------------------------------------

    def _gpu_terms(self, batch: Batch, gpu: boards.Gpu) -> Floats:
        """Seconds of arithmetic with all lanes at work, of random accesses, of atomics, and of the host, which are paid
        once; bytes streamed, and bytes that random accesses fetch."""
        table = self._costs
        row, step, small, large, fixed = batch.by_model(
            lambda m: (
                *_GPU(costs.gpu_entry(table, m)),
                *(updates_atomically(m, n) for n in (0.0, math.inf)),
                costs.cpu_entry(table, m).fixed_us,
            )
        )
        rows, width = batch["rows"], batch["random_width"]
        out = np.empty((6, *rows.shape))
        lanes = gpu.sms * gpu.lanes * gpu.mhz * 1e6
        np.multiply(rows * (1.0 / lanes), row + step * batch["steps"], out=out[0])
        accesses = rows * np.maximum(width * (1.0 / LINE), width > 0)
        hit = np.minimum(1.0, gpu.l2_bytes / np.maximum(batch["table_bytes"], 1.0))
        missed = accesses * (1.0 - hit)
        np.multiply(accesses * hit / gpu.cached_random + missed / gpu.device_random, 1e-9, out=out[1])
        updated = batch["table_bytes"] * (width > 0) * (1.0 / costs.L2_SECTOR)  # atomic kinds write their tables
        rate = np.minimum(gpu.cached_random, gpu.atomics * np.maximum(updated, 1.0))
        atomic = np.where(batch["table_bytes"] > OWN_BYTES, large, small)
        np.divide(rows * atomic, rate * 1e9, out=out[2])
        np.multiply(fixed, 1e-6 / self.board.cpu.speed, out=out[3])
        np.multiply(rows, batch["bytes_in"] + batch["bytes_out"], out=out[4])
        np.multiply(missed, np.maximum(gpu.sector_bytes, np.minimum(width, LINE)), out=out[5])
        return out

    def _gpu_seconds(self, gpu: boards.Gpu, terms: Floats, rows: Floats, share: Any, load: Any) -> Analysed:
        compute, random, conflicts, once, streamed, _ = terms
        gbs = gpu.device_gbs if self.board.discrete else gpu.mapped_gbs
        cached = self._reused("gpu", streamed, streamed)
        memory = random + (streamed - (1.0 - 1.0 / costs.L2_SPEEDUP) * cached) * (1e-9 / gbs)
        moved = self.traffic("gpu", terms, terms)
        filled = np.minimum(1.0, np.maximum(rows, 32.0) * (1.0 / (gpu.sms * costs.FULL_SM)))
        compute = compute / filled
        rest = memory + conflicts
        longest = np.maximum(compute, np.maximum(memory, conflicts))
        overlap = self._costs.gpu_overlap
        own = self.board.gpu_memory or self.board.memory
        mixed = overlap * longest + (1.0 - overlap) * (compute + rest)
        seconds = np.maximum(mixed, moved * (1e-9 / own.shared_gbs)) * (share / (1.0 - load)) + once
        return Analysed(seconds, moved * share, self.board.power.gpu_w, own.joules_per_gb / 1e9)
