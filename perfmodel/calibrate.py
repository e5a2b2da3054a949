"""Calibration: measure points (perfmodel/points.py) within a budget of time, and keep what was measured.

A point's measurements are a line of a journal in the cache folder, so that a calibration that was stopped goes on where
it was, and a longer one adds to a shorter one. How a point is run is the caller's (finequery/calibration.py): it knows
SQL. What a sub-task took is the least of several runs: whatever else the machine did only adds to it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from finequery.errors import Error
from finequery.perfmodel.dataset import VERSION, Sample, from_json, to_json
from finequery.perfmodel.features import Features
from finequery.perfmodel.points import Point, point

#: Points of a calibration, and of a quick one.
POINTS, QUICK = 1200, 200
#: Bytes that displace what a run left in the caches next to the core.
EVICTING = 8 << 20
#: Runs of a point: at least, at most; in between until they took so many seconds.
LEAST_RUNS, MOST_RUNS, ENOUGH = 3, 9, 0.25


@dataclass(frozen=True, slots=True)
class Piece:
    """A pipeline of one run: its sub-tasks with the seconds of each, those of the whole, and the threads."""

    features: tuple[Features, ...]
    seconds: tuple[float, ...]
    total: float
    threads: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline as it was measured: a sample for each of its sub-tasks, and the seconds of the whole."""

    samples: tuple[Sample, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: for a person who watches."""

    done: int
    points: int
    seconds: float
    budget: float
    label: str


#: Runs a point on ``threads`` threads once: the pipelines of its query.
Run = Callable[[int], Sequence[Piece]]
#: Prepares a point and gives how to run it.
Prepare = Callable[[Point], Run]


@dataclass
class Journal:
    """Measured points by key, in memory and in a file of JSON lines. Lines that are damaged (a machine that went down
    while one was written) or of another version are passed over, and their points measured again."""

    path: Path
    points: dict[str, list[Pipeline]] = field(default_factory=dict)
    damaged: int = 0

    def load(self) -> Journal:
        """Read the file, if there is one."""
        with suppress(FileNotFoundError):
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    key, pipelines = _parsed(json.loads(line))
                except (ValueError, TypeError, KeyError):
                    self.damaged += 1
                else:
                    self.points[key] = pipelines
        return self

    def add(self, key: str, pipelines: list[Pipeline]) -> None:
        """Keep a point, at once on disk."""
        self.points[key] = pipelines
        self.path.parent.mkdir(parents=True, exist_ok=True)
        plain = [{"seconds": p.seconds, "samples": [to_json(s) for s in p.samples]} for p in pipelines]
        line = json.dumps({"version": VERSION, "point": key, "pipelines": plain})
        ends = self.path.exists() and self.path.stat().st_size and not self._whole()
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * bool(ends) + line + "\n")

    def _whole(self) -> bool:
        """Whether the last line was written to its end."""
        with self.path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"

    def samples(self) -> list[Sample]:
        """All samples."""
        return [s for pipelines in self.points.values() for p in pipelines for s in p.samples]


def _parsed(value: Any) -> tuple[str, list[Pipeline]]:
    if value["version"] != VERSION:
        raise ValueError("another version")
    return value["point"], [
        Pipeline(tuple(map(from_json, p["samples"])), float(p["seconds"])) for p in value["pipelines"]
    ]


def calibrate(
    prepare: Prepare,
    journal: Journal,
    *,
    points: Iterable[Point] | None = None,
    budget: float,
    threads: int,
    clock_ghz: float,
    progress: Callable[[Progress], None] = lambda state: None,
) -> list[Sample]:
    """Measure the points that the journal has not, until ``budget`` seconds are over; the samples of all it has then.

    Every point runs on one thread, those of many rows also on ``threads``."""
    chosen = [point(n) for n in range(POINTS)] if points is None else list(points)
    begin = time.perf_counter()
    for number, one in enumerate(chosen):
        spent = time.perf_counter() - begin
        if spent > budget:
            break
        progress(Progress(number, len(chosen), spent, budget, one.family))
        if one.key not in journal.points:
            journal.add(one.key, measure(prepare, one, threads, clock_ghz))
    progress(Progress(len(chosen), len(chosen), time.perf_counter() - begin, budget, ""))
    return journal.samples()


def measure(prepare: Prepare, one: Point, threads: int, clock_ghz: float) -> list[Pipeline]:
    """The pipelines of a point. A query that this machine has no room for teaches nothing."""
    try:
        run = prepare(one)
        found = least(run, 1, clock_ghz, one.skew)
        if threads > 1 and one.number % 2 == 0 and any(p.samples[0].features.rows > 100_000 for p in found):
            found += [p for p in least(run, threads, clock_ghz, one.skew) if p.samples[0].threads > 1]
        return found
    except (Error, MemoryError):
        return []


def least(run: Run, threads: int, clock_ghz: float, skew: float = 0.0, fewest: int = LEAST_RUNS) -> list[Pipeline]:
    """The least that each sub-task took in ``fewest`` runs or more; runs that differ much weigh less."""
    run(threads)  # which compiles
    runs: list[Sequence[Piece]] = []
    begin = time.perf_counter()
    others = np.zeros(EVICTING, dtype=np.uint8)
    while len(runs) < fewest or (len(runs) < MOST_RUNS and time.perf_counter() - begin < ENOUGH):
        others += 1  # as between two queries, other data goes through the caches
        runs.append(run(threads))
    found = []
    for pieces in zip(*runs):
        first, samples = pieces[0], []
        for place, features in enumerate(first.features):
            times = [piece.seconds[place] for piece in pieces]
            if skew and features.kind in ("aggregate", "probe"):
                features = replace(features, skew=skew)
            weight = 1.0 / (1.0 + _spread(times))
            samples.append(Sample(features, "cpu", first.threads, clock_ghz, 0.0, min(times), weight))
        found.append(Pipeline(tuple(samples), min(piece.total for piece in pieces)))
    return found


def _spread(times: Sequence[float]) -> float:
    """How far the middle run is above the best one, as a share of it."""
    best = min(times)
    return (statistics.median(times) - best) / best if best > 0 else 0.0
