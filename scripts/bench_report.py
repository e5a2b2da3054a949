"""The benchmark's results, as text and as JSON, with the targets."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from bench_groups import Group

from finequery.bench.engines import DUCKDB, DUCKDB_FILE, OURS

#: Columns of text in the table: the name and the two notes.
LEFT = (0, 3, 7)


@dataclass
class Result:
    """Times of one case by engine, in seconds, and what went wrong by engine."""

    name: str
    times: dict[str, list[float]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    limit: float | None = None  # wanted upper bound of our time, in seconds

    def median(self, engine: str) -> float | None:
        return statistics.median(self.times[engine]) if self.times.get(engine) else None

    @property
    def best_duckdb(self) -> str | None:
        """The faster of DuckDB in memory and DuckDB from a file."""
        ran = [name for name in (DUCKDB, DUCKDB_FILE) if self.times.get(name)]
        return min(ran, key=lambda name: statistics.median(self.times[name]), default=None)

    def ratio(self, engine: str = OURS) -> float | None:
        """DuckDB's median over the engine's."""
        best, mine = self.best_duckdb, self.median(engine)
        theirs = self.median(best) if best else None
        return theirs / mine if theirs and mine else None


@dataclass
class Table:
    """One group's results."""

    group: Group
    results: list[Result] = field(default_factory=list)

    def geomean(self, engine: str = OURS) -> float | None:
        ratios = [ratio for result in self.results if (ratio := result.ratio(engine))]
        return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None

    def passed(self) -> bool:
        """Whether every case ran right and the group's targets are met."""
        ratios, mean = [result.ratio() for result in self.results], self.geomean()
        if any(OURS in result.problems for result in self.results) or None in ratios or mean is None:
            return False
        slow = any(r.limit is not None and (r.median(OURS) or 0) > r.limit for r in self.results)
        least = min(ratio for ratio in ratios if ratio)
        return not slow and mean >= (self.group.target or 0) and least >= (self.group.floor or 0)


def number(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    ms = seconds * 1000
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 100 else f"{ms:.0f}"


def show(table: Table, names: list[str]) -> str:
    """The group as text: medians and minima in ms, ratios, and how they stand to the targets."""
    group = table.group
    others = [name for name in names if name not in (OURS, DUCKDB, DUCKDB_FILE)]
    header = ["", "duckdb", "min", "", OURS, "min", "ratio", "", *others]
    lines = [header]
    for result in table.results:
        best, ratio, mine = result.best_duckdb, result.ratio(), result.median(OURS)
        slow = ratio is not None and group.floor is not None and ratio < group.floor
        slow = slow or (result.limit is not None and mine is not None and mine > result.limit)
        note = f"below {group.floor:g}" if slow and group.floor else f"over {number(result.limit)}" if slow else ""
        lines.append(
            [
                result.name,
                number(result.median(best) if best else None),
                number(min(result.times[best]) if best else None),
                "file" if best == DUCKDB_FILE else "",
                number(mine),
                number(min(result.times[OURS]) if mine else None),
                f"{ratio:.2f}" if ratio else "-",
                "FAILED" if OURS in result.problems else note,
                *(number(result.median(name)) for name in others),
            ]
        )
    mean = table.geomean()
    missing = sum(OURS in result.problems for result in table.results)
    if group.name != "overhead":
        means = [f"{other:.2f}x" if (other := table.geomean(name)) else "-" for name in others]
        note = f"target {group.target:g}" if group.target else ""
        lines.append(["geometric mean", "", "", "", "", "", f"{mean:.2f}" if mean else "-", note, *means])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = [group.title]
    for line in lines:
        cells = [
            cell.ljust(width) if column in LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  " + "  ".join(cells).rstrip())
    wanted = [f"geometric mean >= {group.target:g}"] if group.target else []
    wanted += [f"each >= {group.floor:g}"] if group.floor else []
    if wanted:
        failed = f" ({missing} failed)" if missing else ""
        text.append(f"  {'met' if table.passed() else 'NOT MET'}: {', '.join(wanted)}{failed}")
    for result in table.results:
        for name, problem in result.problems.items():
            text.append(f"  {name}, {result.name}: {problem.splitlines()[0][:150] if problem else 'failed'}")
    return "\n".join(text)


def as_json(table: Table) -> dict[str, Any]:
    return {
        "group": table.group.name,
        "title": table.group.title,
        "target": table.group.target,
        "floor": table.group.floor,
        "geomean": table.geomean(),
        "met": table.passed(),
        "results": [
            {
                "name": result.name,
                "ratio": result.ratio(),
                "best_duckdb": result.best_duckdb,
                "median_ms": {name: statistics.median(values) * 1e3 for name, values in result.times.items() if values},
                "min_ms": {name: min(values) * 1e3 for name, values in result.times.items() if values},
                "runs": {name: len(values) for name, values in result.times.items()},
                "problems": result.problems,
            }
            for result in table.results
        ],
    }
