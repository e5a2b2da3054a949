"""A benchmark's results as text: medians with their spread, and how other engines compare."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finequery.bench import spread
from finequery.bench.engines import OURS
from finequery.bench.record import Results


def ms(seconds: float) -> str:
    """Milliseconds with three digits or more."""
    value = seconds * 1e3
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def columns(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of cells as aligned text; the first ``left`` columns flush left."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return [
        "  ".join(c.ljust(w) if n < left else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    ]


def title(results: Results) -> str:
    """What was run, and where."""
    from finequery.workloads import TITLES

    what = f"{TITLES.get(results.suite, results.suite)}, scale {results.scale:g}"
    if results.simulated:
        return f"{what}, on {results.machine['board']}: simulated, in memory"
    machine = results.machine
    versions = [f"{name} {machine['versions'].get(name, '')}".strip() for name in results.engines]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads_used']} threads an engine"
    return f"{what}, in memory; medians in ms\n{where}; {', '.join(versions)}"


def show(results: Results) -> str:
    """The results as a table in milliseconds. Behind another engine's times stands how many times FineQuery's."""
    lines = [title(results), *(f"warning: {text}" for text in results.conditions.get("warnings", ())), ""]
    return "\n".join([*lines, *(_simulated(results) if results.simulated else _measured(results)), *_problems(results)])


def _measured(results: Results) -> list[str]:
    others = [name for name in results.engines if name != OURS]
    metered = any("joules" in entry for found in results.engines.values() for entry in found.values())
    head = ["±", *(["mJ"] if metered else [])]
    table = [["query", "rows", OURS, *head, *(cell for name in others for cell in (name, *head, "ratio"))]]
    for query in results.queries:
        rows = results.engines[OURS].get(query, {}).get("rows")
        line = [query, "-" if rows is None else f"{rows:,}", *_cells(results, OURS, query, metered)]
        for name in others:
            found = slower(results, name, query)
            line += [*_cells(results, name, query, metered), f"{found:.2f}" if found else "-"]
        table.append(line)
    last = ["geometric mean", "", "", *[""] * len(head)]
    for name in others:
        ratios = [r for query in results.queries if (r := slower(results, name, query))]
        mean = f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}" if ratios else "-"
        last += ["", *[""] * len(head), mean]
    return columns([*table, last] if others else table)


def _cells(results: Results, engine: str, query: str, metered: bool) -> list[str]:
    times, joules = results.seconds(engine, query), results.engines[engine].get(query, {}).get("joules")
    more = [f"{joules * 1e3:.3g}" if joules else "-"] if metered else []
    if not times:
        return ["FAILED" if results.problem(engine, query) else "-", "", *more]
    return [ms(spread.median(times).value), ms(spread.half_range(times)), *more]


def slower(results: Results, engine: str, query: str) -> float | None:
    """The engine's median over ours."""
    mine, theirs = results.median(OURS, query), results.median(engine, query)
    return theirs / mine if mine and theirs else None


def _simulated(results: Results) -> list[str]:
    table = [["query", "rows", "ms", "low", "high", "mJ", "bandwidth", "on"]]
    for query, entry in results.engines[OURS].items():
        times = [ms(seconds) for seconds in (entry["seconds"][0], entry["low"], entry["high"])]
        energy, used = f"{entry['joules'] * 1e3:.3g}", f"{entry['utilisation']:.0%}"
        table.append([query, f"{entry['rows']:,}", *times, energy, used, "+".join(entry["devices"])])
    return columns(table)


def _problems(results: Results) -> list[str]:
    found = [
        f"{name}, {query}: {entry['problem'].splitlines()[0][:160]}"
        for name, entries in results.engines.items()
        for query, entry in entries.items()
        if "problem" in entry
    ]
    return ["", *found] if found else []
