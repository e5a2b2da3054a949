"""What one side gave: its times, joules and bytes by query, and the file in which they travel between machines.

The file is JSON as ``finequery bench`` writes it, which can be read too: machine, conditions, suite, scale, and for
FineQuery the queries with the seconds of each run. A result of this command has more: each query in every *way*
("placed" as FineQuery does it, all on the "cpu", all on the "gpu") and for columns that are "resident" where they are
worked on, or "cold": in the host's memory, from which a discrete GPU has to copy them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finequery.bench import record
from finequery.bench.record import Results
from finequery.errors import DataError

WAYS = ("placed", "cpu", "gpu")
REGIMES = ("resident", "cold")

#: A stretch of a timeline: engine, pipeline, start and end in seconds.
Stretch = tuple[str, int, float, float]


@dataclass(frozen=True, slots=True)
class Run:
    """A query in one way and regime. None: not known.

    ``low`` and ``high`` bound the seconds: the quartiles of runs that were measured, and how far off the simulator may
    be (finequery/simulation.py). ``operands``: bytes of its sub-tasks' inputs and outputs, wherever they came from;
    ``traffic``: bytes through the memories, which the simulator alone knows."""

    seconds: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    joules: float | None = None
    idle_joules: float | None = None  # of these, the machine's at rest
    operands: float | None = None
    traffic: float | None = None
    plan: str = ""
    timeline: tuple[Stretch, ...] = ()
    note: str = ""

    @property
    def median(self) -> float:
        """Of its times."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Answered:
    """A query: how many rows it gave (-1: not known), and its runs by way and regime. ``pipelines``: what each does, in
    a few words, for the timeline."""

    rows: int
    runs: Mapping[str, Mapping[str, Run]]
    text: str = ""  # a hash of its SQL, where that is known
    pipelines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a side is. Zero for what is not known; a text says where each number comes from."""

    title: str
    device: str = "auto"
    simulated: bool = False
    discrete: bool = False
    board: str = ""
    model: str = ""
    objective: str = "latency"  # what placement made small
    peak_gbs: float = 0.0
    usd: float = 0.0
    host_usd: float = 0.0
    tdp_w: float = 0.0
    sources: Mapping[str, str] = field(default_factory=dict)
    estimates: int = 0  # of the board's numbers that nobody read or measured


@dataclass(frozen=True, slots=True)
class Result:
    """One side's answers to a suite at a scale. ``suite``: a workload's name, or "own"."""

    facts: Facts
    suite: str
    scale: float
    queries: Mapping[str, Answered]
    machine: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> Results:
        """As ``finequery bench`` keeps it."""
        queries: dict[str, dict[str, Any]] = {}
        for name, answered in self.queries.items():
            seconds = list(answered.runs["placed"]["resident"].seconds)
            runs = {way: {regime: _short(run) for regime, run in of.items()} for way, of in answered.runs.items()}
            queries[name] = {"seconds": seconds, "rows": answered.rows, "text": answered.text, "runs": runs}
            queries[name]["pipelines"] = list(answered.pipelines)
        return Results(
            self.suite,
            self.scale,
            dict(self.machine),
            dict(self.conditions),
            {"finequery": queries},
            self.facts.simulated,
            self.facts.board,
            side=asdict(self.facts),
        )


def _short(run: Run) -> dict[str, Any]:
    """Without what is not known."""
    return {key: value for key, value in asdict(run).items() if value not in (None, "", ())}


def read(path: Path) -> Result:
    """A result file, of this command or of ``finequery bench``. Raises FileError for a file that can't be read or is
    none, and DataError, which says what is wrong, for one whose figures can't be used."""
    kept = record.read(path)
    try:
        return _result(kept)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f'it has no "{error.args[0]}"' if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"'{path}' has no results to compare: {what}",
            hint="A side's file is what 'finequery compare SIDE --json FILE' or 'finequery bench' writes.",
        ) from None


def _result(kept: Results) -> Result:
    found = {}
    for name, entry in kept.engines["finequery"].items():
        if not entry.get("seconds") and not entry.get("runs"):
            continue  # a query that failed there
        if entry.get("resident") is False:
            raise ValueError("its columns were cold, and nothing tells what they take when they are resident")
        runs = {
            str(way): {str(regime): _run(one) for regime, one in of.items()}
            for way, of in (entry.get("runs") or {"placed": {"resident": entry}}).items()
        }
        if unknown := (set(runs) - set(WAYS)) | {regime for of in runs.values() for regime in of} - set(REGIMES):
            raise ValueError(f'there is no way or regime "{min(unknown)}"')
        if "resident" not in runs["placed"]:
            raise KeyError("resident")
        words = tuple(map(str, entry.get("pipelines", ())))
        found[str(name)] = Answered(int(entry.get("rows", -1)), runs, str(entry.get("text", "")), words)
    if not found:
        raise ValueError("it has no query that FineQuery answered")
    if not isinstance(kept.simulated, bool):
        raise ValueError('"simulated" is neither true nor false')
    if kept.side:
        facts = Facts(**kept.side)
        if facts.simulated != kept.simulated:
            raise ValueError('its two entries "simulated" contradict each other')
    else:
        title = str(kept.machine.get("gpu") or kept.machine.get("cpu") or "a machine")
        facts = Facts(title, simulated=kept.simulated, board=kept.board)
    return Result(facts, str(kept.suite), float(kept.scale), found, kept.machine, kept.conditions)


def _run(entry: Mapping[str, Any]) -> Run:
    seconds = tuple(float(s) for s in entry["seconds"])
    if not seconds or not all(math.isfinite(s) and s > 0.0 for s in seconds):
        raise ValueError("a query has no times, or one that is not above 0")
    numbers = {key: entry.get(key) for key in ("low", "high", "joules", "idle_joules", "operands", "traffic")}
    for key, value in numbers.items():
        if value is not None and not (math.isfinite(float(value)) and float(value) >= 0.0):
            raise ValueError(f"{key} is {value!r}")
    stretches = tuple((str(e), int(p), float(a), float(b)) for e, p, a, b in entry.get("timeline", ()))
    if len(seconds) > 1:
        numbers["low"], _, numbers["high"] = statistics.quantiles(seconds, n=4)
    return Run(seconds, **numbers, plan=str(entry.get("plan", "")), timeline=stretches, note=str(entry.get("note", "")))
