"""Running a workload's queries: on engines, which take turns, or once here and then on a simulated board."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finequery import energy
from finequery.bench.answers import difference, order_keys
from finequery.bench.engines import OTHERS, OURS, Engine, Reference
from finequery.bench.measure import interleave
from finequery.workloads.progress import Progress

if TYPE_CHECKING:
    from finequery.bench.record import Results
    from finequery.compare.work import Work
    from finequery.jetson.board import Board
    from finequery.jetson.telemetry import Telemetry

#: What is kept of a query on an engine: ``Results.engines``.
Entry = dict[str, Any]


def load(running: Sequence[Engine], tables: Mapping[str, Path]) -> dict[str, str]:
    """Make the tables in every engine; by engine, why it could not."""
    problems = {}
    with Progress("loading", len(running)) as bar:
        for engine in running:
            bar.step(engine.name, 0)
            try:
                engine.load(dict(tables))
            except Exception as error:
                problems[engine.name] = _words("load", error)
            bar.step(engine.name)
    return problems


def measure(
    results: Results,
    texts: Mapping[str, str],
    running: Sequence[Engine],
    reference: Reference,
    seconds: float,
    telemetry: Telemetry | None = None,
) -> None:
    """Time every query on all engines that answer it as the ``reference`` does, for about so many seconds each; with
    ``telemetry``, measure its energy after that."""
    with Progress(results.suite, len(texts)) as bar:
        for query, sql in texts.items():
            bar.step(query, 0)
            for name, entry in _measured(sql, running, reference, seconds, telemetry).items():
                results.engines.setdefault(name, {})[query] = entry
            bar.step(query)


def _measured(
    sql: str, running: Sequence[Engine], reference: Reference, seconds: float, telemetry: Telemetry | None
) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    answers: dict[str, list[tuple[Any, ...]]] = {}
    runs: dict[str, partial[Any]] = {}
    for engine in running:
        begin = time.perf_counter()
        try:
            answers[engine.name] = engine.run(sql)
        except Exception as error:
            entries[engine.name] = {"problem": _words("", error)}
            continue
        first = time.perf_counter() - begin
        entries[engine.name] = {"seconds": [], "rows": len(answers[engine.name]), "first": first}
        runs[engine.name] = partial(engine.run, sql)
    want = answers.get(reference.name)
    if want is not None:
        keys = order_keys(sql, reference.columns(sql))
        for name, got in answers.items():
            problem = None if got is want else difference(got, want, keys, exact=name not in OTHERS)
            if problem:
                entries[name] = {"problem": f"unlike {reference.name}'s answer: {problem}"}
                del runs[name]
    answers.clear()
    for name, times in interleave(runs, seconds).items():
        entries[name]["seconds"] = times
    for name, again in runs.items() if telemetry is not None else ():
        found = energy.measure(again, telemetry)
        entries[name] |= {"joules": found.joules, "idle_joules": found.idle_joules, "energy": str(found)}
    return entries


def simulate(results: Results, work: Work, board: Board, device: str, cold: bool) -> None:
    """Run every query once here for its rows, and then on the board."""
    from finequery import simulation
    from finequery.compare.simulate import counted

    with Progress(results.suite, len(work.queries)) as bar:
        queries = counted(work, bar.step)
    entries = results.engines.setdefault(OURS, {})
    for query in queries:
        found = simulation.on(query, board, device=device, cold=cold)
        entries[query.name] = {"seconds": [found.seconds], "rows": query.rows, **found.numbers()}


def _words(doing: str, error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return f"{doing}: {text}" if doing else text
