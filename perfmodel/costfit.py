"""Fitting the CPU's cost table (jetson/boards/costs.toml) to what was measured on the reference machine.

Every kind of work has four coefficients in the formula of jetson/costs.py: cycles a row and a step, a factor on random
accesses, and microseconds paid once. ``fit`` finds the non-negative ones with the least squared logarithm of predicted
over measured, robustly (soft L1: a sample that was disturbed counts little), from samples of one thread. What the
formula multiplies them with is taken from ``costs.terms``, so that this file has no formula of its own but how the
parts of one work are put together. Needs SciPy, which scikit-learn brings (``pip install finequery[train]``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from finequery.jetson import costs
from finequery.jetson.board import Board
from finequery.jetson.costs import Costs, CpuEntry
from finequery.perfmodel.dataset import Sample
from finequery.perfmodel.work import works

#: An algorithm with fewer samples is priced as its kind.
FEWEST = 6
#: Seconds added to both sides before the logarithm: below this nothing is told apart.
FLOOR = 2e-6
#: Shares of the smaller of computing and streaming that may hide behind the larger one: the best is chosen.
OVERLAPS = (0.25, 0.5, 0.7, 0.85, 1.0)
#: What a further thread may add, of the first one's speed: the best is chosen.
GAINS = tuple(n / 20 for n in range(2, 21))
#: How much a coefficient is held to what it was, beside a sample: samples that say nothing of it leave it there.
PRIOR = 0.1
#: Coefficients below this are nothing.
NOTHING = 1e-3


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted table, and for each of its entries the samples and the median relative error over them."""

    table: Costs
    samples: Mapping[str, int]
    errors: Mapping[str, float]


def fit(samples: Sequence[Sample], board: Board, table: Costs) -> Fit:
    """The table with the entries that there are samples for fitted to them; the rest stays."""
    groups: dict[str, list[Sample]] = {}
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        f = sample.features
        if sample.device == "cpu" and sample.threads == 1 and not sample.simulated and f.rows > 0:
            groups.setdefault(f.model, []).append(sample)
            kinds.setdefault(f.kind, []).append(sample)
    groups = {key: found for key, found in (kinds | groups).items() if len(found) >= FEWEST}
    best: tuple[float, Fit] | None = None
    for overlap in OVERLAPS:
        tried = replace(table, cpu_overlap=overlap)
        entries, errors, loss = dict(table.cpu), {}, 0.0
        for key, found in groups.items():
            entries[key], errors[key], cost = _fit(found, board, tried, costs.cpu_entry(table, key))
            loss += cost
        made = Fit(replace(tried, cpu=entries), {k: len(v) for k, v in groups.items()}, errors)
        if best is None or loss < best[0]:
            best = loss, made
    assert best is not None
    return best[1]


def _fit(samples: Sequence[Sample], board: Board, table: Costs, old: CpuEntry) -> tuple[CpuEntry, float, float]:
    """An entry, its median relative error, and the loss of the fit."""
    from scipy.optimize import least_squares

    units = [
        replace(old, row=1.0, step=0.0, random=0.0),
        replace(old, row=0.0, step=1.0, random=0.0),
        replace(old, row=0.0, step=0.0, random=1.0),
    ]
    parts = np.zeros((len(samples), 3))
    stream, least = np.zeros(len(samples)), np.zeros(len(samples))
    cpu = board.cpu
    for i, sample in enumerate(samples):
        work = works(sample.features, "pageable")
        for j, unit in enumerate(units):
            one = costs.terms(board, work, replace(table, cpu={"default": unit}))
            parts[i, j] = one.compute + one.random
        alone = costs.cpu_cost(board, [work], table)
        stream[i] = alone.streamed / 1e9 / min(cpu.thread_gbs, cpu.all_gbs) + alone.cached / 1e9 / cpu.cached_gbs
        least[i] = alone.traffic / 1e9 / cpu.all_gbs
    measured = np.array([s.seconds for s in samples])
    weights = np.sqrt([s.weight for s in samples])

    def predicted(x: np.ndarray) -> np.ndarray:
        busy = parts @ x[:3]
        mixed = np.maximum(busy, stream) + (1.0 - table.cpu_overlap) * np.minimum(busy, stream)
        return np.maximum(mixed, least) + x[3] * 1e-6

    prior = np.log([max(v, 10 * NOTHING) for v in (old.row, old.step, old.random, old.fixed_us)])

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        errors = weights * np.log((predicted(np.exp(logarithms)) + FLOOR) / (measured + FLOOR))
        return np.concatenate([errors, PRIOR * (logarithms - prior)[:3]])

    bounds = (math.log(NOTHING) - 3.0, math.log(1e5))
    starts = (prior, np.zeros(4))
    found = [least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.2) for start in starts]
    best = min(found, key=lambda r: r.cost)
    x = np.exp(best.x)
    for j in range(3):  # what no sample has is not known: it stays
        if not parts[:, j].any():
            x[j] = (old.row, old.step, old.random)[j]
    x[x < NOTHING] = 0.0
    error = float(np.median(np.abs(predicted(x) - measured) / np.maximum(measured, FLOOR)))
    entry = replace(old, row=float(x[0]), step=float(x[1]), random=float(x[2]), fixed_us=float(x[3]))
    return entry, error, float(best.cost)


def gain(samples: Sequence[Sample], board: Board, table: Costs) -> tuple[float, int]:
    """What a further thread adds (``Cpu.gain``), by the least absolute logarithm of predicted over measured, from
    samples of several threads with rows for all of them; and how many there were. The board's own without any."""
    found = [
        (works(s.features, "pageable"), s.threads, s.seconds, s.weight)
        for s in samples
        if s.device == "cpu" and s.threads > 1 and s.features.rows >= s.threads * costs.MORSEL and not s.simulated
    ]

    def loss(value: float) -> float:
        tried = replace(board, cpu=replace(board.cpu, gain=value))
        errors = []
        for work, threads, seconds, weight in found:
            cost = costs.cpu_cost(tried, [work], table)
            errors.append(weight * abs(math.log((cost.seconds(threads) + cost.fixed + FLOOR) / (seconds + FLOOR))))
        return sum(errors)

    return (min(GAINS, key=loss) if found else board.cpu.gain), len(found)


def write_gain(path: Path, value: float, source: str) -> None:
    """Put ``cpu.gain`` into a board's file."""
    line = f'gain = {{ value = {value:g}, source = "{source}" }}'
    path.write_text(re.sub(r"(?m)^gain = .*$", line, path.read_text(encoding="utf-8")), encoding="utf-8")


def write(path: Path, fitted: Fit, source: str) -> None:
    """Write the fitted entries into a table's file; comments and other entries stay as they are."""
    lines: list[str] = []
    seen: set[str] = set()
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        header = re.match(r"\[(\w+)\]", line)
        if header and section == "cpu":
            lines = _with_new(lines, fitted, seen, source)
        section = header[1] if header else section
        key = re.match(r'"?([\w: -]+?)"? = \{', line)
        if section == "cpu" and key and key[1] in fitted.errors:
            seen.add(key[1])
            line = _line(key[1], fitted, source)
        elif section == "model" and line.startswith("cpu_overlap"):
            best = f"{source}: the best of {', '.join(map(str, OVERLAPS))}"
            line = f'cpu_overlap = {{ value = {fitted.table.cpu_overlap:g}, source = "{best}" }}'
        lines.append(line)
    if section == "cpu":
        lines = _with_new(lines, fitted, seen, source)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _with_new(lines: list[str], fitted: Fit, seen: set[str], source: str) -> list[str]:
    """Entries that the file has not yet, before the empty line at a section's end."""
    new = [_line(key, fitted, source) for key in sorted(fitted.errors) if key not in seen]
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end] + new + lines[end:]


def _line(key: str, fitted: Fit, source: str) -> str:
    e, error, count = fitted.table.cpu[key], fitted.errors[key], fitted.samples[key]
    name = key if re.fullmatch(r"[\w-]+", key) else f'"{key}"'
    numbers = ", ".join(
        f"{field} = {value:.4g}" if "e" not in f"{value:.4g}" else f"{field} = {value:.6f}"
        for field, value in (
            *(("row", e.row), ("step", e.step), ("vector", e.vector), ("random", e.random)),
            *(("serial", e.serial), ("fixed_us", e.fixed_us)),
        )
    )
    return f'{name} = {{ {numbers}, source = "{source}: {count} samples, median error {error:.0%}" }}'
