"""Two results side by side: one document of numbers, of which every table, page and plot is a view.

``compare`` computes everything that is said of two sides. What is derived from a simulated figure is simulated itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finequery.compare import measures
from finequery.compare.result import REGIMES, WAYS, Answered, Facts, Result, Run
from finequery.errors import DataError, FileError

Document = dict[str, Any]

#: How the sides are called in the document.
SIDES = ("a", "b")


def compare(a: Result, b: Result, timelines: Sequence[str] = ()) -> Document:
    """The comparison of a side with another one. ``timelines``: queries whose timelines are wanted; without any, the
    one that takes side A longest.

    Raises DataError where the two are not of the same work.
    """
    names = _common(a, b)
    for name in timelines:
        if name not in names:
            raise DataError(f'There is no query "{name}" on both sides: {", ".join(names)}')
    discrete = a.facts.discrete or b.facts.discrete
    regimes = [r for r in REGIMES if r == "resident" or discrete]
    queries = [_query(name, a, b, regimes) for name in names]
    slowest = max(queries, key=lambda q: q["a"]["placed"]["resident"]["ms"])["query"]
    document = {
        "suite": a.suite,
        "scale": a.scale,
        "regimes": regimes,
        "sides": {
            side: {**asdict(of.facts), "machine": dict(of.machine), "conditions": dict(of.conditions)}
            for side, of in zip(SIDES, (a, b))
        },
        "left_out": sorted(set(a.queries) ^ set(b.queries)),
        "queries": queries,
        "against": {
            way: {regime: _against(queries, a.facts, b.facts, way, regime) for regime in regimes}
            for way in ("placed", "gpu")
        },
        "alone": {side: {regime: _alone(queries, side, regime) for regime in regimes} for side in SIDES},
        "paper": {key: asdict(published) for key, published in measures.PAPER.items()},
        "timelines": {name: _timelines(name, a, b, regimes) for name in timelines or [slowest]},
    }
    return rounded(document)


def _query(name: str, a: Result, b: Result, regimes: Sequence[str]) -> Document:
    mine, theirs = (_cells(of.queries[name], of.facts, regimes) for of in (a, b))
    both = [r for r in regimes if r in mine["placed"] and r in theirs["placed"]]
    over = {r: mine["placed"][r]["ms"] / theirs["placed"][r]["ms"] for r in both}
    rows = max(a.queries[name].rows, b.queries[name].rows)
    return {"query": name, "rows": rows, "a": mine, "b": theirs, "over": over}


def write(path: Path, document: Document) -> None:
    """Write the document as JSON; FileError where that can't be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise FileError(f"Can't write '{path}': {error.strerror or error}") from None


def rounded(value: Any) -> Any:
    """Numbers to six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value


def _common(a: Result, b: Result) -> list[str]:
    if (a.suite, a.scale) != (b.suite, b.scale):
        what = [f"{r.facts.title}: {r.suite}, scale {r.scale:g}" for r in (a, b)]
        raise DataError(f"The two sides ran different work. {what[0]}; {what[1]}")
    names = [name for name in a.queries if name in b.queries]
    if not names:
        raise DataError("The two sides have no query in common")
    for name in names:
        mine, theirs = a.queries[name], b.queries[name]
        if mine.text and theirs.text and mine.text != theirs.text:
            raise DataError(f'"{name}" is another query on one side than on the other')
        if mine.rows != theirs.rows and min(mine.rows, theirs.rows) >= 0:
            raise DataError(
                f'"{name}" gave {mine.rows} rows on one side and {theirs.rows} on the other: their data differs'
            )
    return names


def _cells(answered: Answered, facts: Facts, regimes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Numbers by way and regime. A side that copies nothing is the same in both."""
    found: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        runs = answered.runs.get(way, {})
        for regime in regimes:
            run = runs.get(regime) or (None if facts.discrete else runs.get("resident"))
            if run is not None:
                found.setdefault(way, {})[regime] = _cell(run, facts)
    return found


def _cell(run: Run, facts: Facts) -> dict[str, Any]:
    """Milliseconds with their bounds, millijoules, and shares of the memories' peak bandwidth: ``used`` by operands,
    ``traffic`` by what went through the memories."""
    peak = facts.peak_gbs * 1e9

    def share(nbytes: float | None) -> float | None:
        return None if nbytes is None or not peak else nbytes / run.median / peak

    return {
        "ms": run.median * 1e3,
        "low_ms": None if run.low is None else run.low * 1e3,
        "high_ms": None if run.high is None else run.high * 1e3,
        "runs": len(run.seconds),
        "mj": None if run.joules is None else run.joules * 1e3,
        "idle_mj": None if run.idle_joules is None else run.idle_joules * 1e3,
        "used": share(run.operands),
        "traffic": share(run.traffic),
        "plan": run.plan,
        "note": run.note,
        "simulated": facts.simulated,
    }


def _column(queries: Sequence[Document], side: str, way: str, regime: str, value: str) -> list[float] | None:
    """A value of all queries; None where one has none."""
    cells = [q[side].get(way, {}).get(regime) for q in queries]
    if any(cell is None or cell[value] is None for cell in cells):
        return None
    return [cell[value] for cell in cells]


def _against(queries: Sequence[Document], a: Facts, b: Facts, way: str, regime: str) -> Document | None:
    """Side A as FineQuery places queries there against side B in one way (measures.py says what each number is); None
    where B has not run so."""
    mine, theirs = _column(queries, "a", "placed", regime, "ms"), _column(queries, "b", way, regime, "ms")
    if mine is None or theirs is None:
        return None
    my_joules, their_joules = (_column(queries, side, w, regime, "mj") for side, w in (("a", "placed"), ("b", way)))
    return {
        "time_over": measures.time_over(mine, theirs),
        "less_time": measures.less_time(mine, theirs),
        "faster": measures.faster(mine, theirs),
        "per_cost": measures.per_unit(mine, theirs, measures.machine_price(a), measures.machine_price(b)),
        "per_card": measures.per_unit(mine, theirs, a.usd, b.usd),
        "per_watt": measures.per_unit(mine, theirs, a.tdp_w, b.tdp_w),
        "joules": None if not my_joules or not their_joules else measures.times_less(my_joules, their_joules),
        "simulated": a.simulated or b.simulated,
    }


def _alone(queries: Sequence[Document], side: str, regime: str) -> Document | None:
    """A side against its own devices: less time than one alone, and use of the memories' bandwidth."""
    placed, cpu, gpu = (_column(queries, side, way, regime, "ms") for way in WAYS)
    if placed is None:
        return None
    found: Document = {"simulated": queries[0][side]["placed"]["resident"]["simulated"], "less_time": None}
    if cpu and gpu:
        devices = measures.single_devices(cpu, gpu)
        found["less_time"] = {of: measures.less_time(placed, times) for of, times in devices.items()}
    for value in ("used", "traffic"):
        columns = {way: _column(queries, side, way, regime, value) for way in WAYS}
        means = {way: measures.mean(column) for way, column in columns.items() if column is not None}
        known = [way for way in WAYS if gpu and means.get(way, 0.0) > measures.IN_CACHE]
        ratios = {way: means["placed"] / means[way] for way in ("cpu", "gpu") if {way, "placed"} <= set(known)}
        if len(ratios) == 2:
            ratios["mean"] = means["placed"] / measures.mean((means["cpu"], means["gpu"]))
        found[value] = {"mean": means, "over": ratios} if means else None
    return found


def _timelines(name: str, a: Result, b: Result, regimes: Sequence[str]) -> Document:
    found: Document = {"pipelines": list(a.queries[name].pipelines or b.queries[name].pipelines)}
    for side, of in zip(SIDES, (a, b)):
        shown = regimes if of.facts.discrete else ["resident"]
        runs = {regime: of.queries[name].runs["placed"].get(regime) for regime in shown}
        found[side] = {
            regime: {
                "ms": max(end for *_, end in run.timeline) * 1e3,  # of one run, not the median
                "simulated": of.facts.simulated,
                "bars": [list(stretch) for stretch in run.timeline],
            }
            for regime, run in runs.items()
            if run is not None and run.timeline
        }
    return found
