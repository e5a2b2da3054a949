"""How good FineQuery's placement is: regret, prediction, latency, bandwidth, energy, cost, ablations and sweeps.

    python scripts/experiments.py                  # writes docs/experiments.md, its plots and its JSON
    python scripts/experiments.py --quick          # a minute: two scales, two boards, nothing kept
    python scripts/experiments.py --placing        # only what placing each query costs: shown, and that section anew

All 22 TPC-H and 13 SSB queries on every board, in the simulator of jetson/simulator.py. The queries run once each on
this machine for their true numbers of rows; what is kept of that (numbers alone) makes later runs quick. Everything is
a function of the generated data, whose seeds are fixed: two runs write the same but for the time that placing takes.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import experiments_measures as measures  # noqa: E402
import experiments_page as page  # noqa: E402
import experiments_placing as placing  # noqa: E402
from bench_data import Data  # noqa: E402
from experiments_measures import Cell  # noqa: E402
from experiments_plans import Plan, continued, plans  # noqa: E402

from finequery.jetson import board as boards  # noqa: E402
from finequery.perfmodel.model import Model, load_model  # noqa: E402
from finequery.planner.stages import Site  # noqa: E402
from finequery.workloads.files import cache_dir  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("tpch", "ssb")
#: Boards that FineQuery is for, and hosts with a discrete GPU.
EDGE, HOSTS = ("agx-xavier", "agx-orin", "orin-nano"), ("rtx-2080-ti", "v100", "rtx-3090", "h100")
#: Scales that run, and those that are continued from them.
RUN, SCALED = (0.1, 1.0), (10.0, 100.0)
#: The scale of ablations and of the sweeps over other things.
MAIN = 1.0
LOADS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)


class Work:
    """Plans by suite and scale, and sites with their models."""

    def __init__(self, data: Data, cache: Path, run: Sequence[float], scaled: Sequence[float]):
        self.data, self.cache, self.run, self.scales = data, cache, tuple(run), (*run, *scaled)

    @functools.cache  # noqa: B019
    def plans(self, suite: str, scale: float) -> list[Plan]:
        """Those of a suite, from the cache, from a run, or continued from the two largest scales that run."""
        if scale in self.run:
            return plans(suite, scale, self.data, self.cache)
        small, large = (self.plans(suite, s) for s in self.run[-2:])
        return [continued(a, b, scale) for a, b in zip(small, large)]

    def site(self, cell: Cell, load: dict[str, float] | None = None) -> tuple[Site, Model]:
        """Where a cell's plans run. What the runs of whoever writes the page have taught the model is left out."""
        board = boards.load(cell.board)
        return Site(board, board.cpu.cores, load or {}, cell.resident), load_model(board, corrected=False)


def each(work: Work, cell: Cell, measure: Callable[[Plan, Site, Model], Any]) -> list[Any]:
    """A measure of all queries of a cell."""
    site, model = work.site(cell)
    return [measure(plan, site, model) for plan in work.plans(cell.suite, cell.scale)]


def about(work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """Boards, hosts and scales, and the one of what is shown at one alone."""
    edge, hosts = (EDGE[:1], HOSTS[:1]) if options.quick else (EDGE, HOSTS)
    main = MAIN if MAIN in work.run else work.run[-1]
    return {"main": main, "scales": work.scales, "run": work.run, "edge": edge, "hosts": hosts}


def costs_of_placing(work: Work, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measured, so nothing else runs beside it: a cell for each board and one host."""
    edge, hosts, main = map(about(work, options).__getitem__, ("edge", "hosts", "main"))
    found = []
    for board, suite in itertools.product((*edge, hosts[-1]), SUITES):
        cell = Cell(board, suite, main)
        numbers = each(work, cell, placing.placing)
        found.append({"what": "placing", "board": board, "suite": suite, "scale": main, "resident": True})
        found[-1] |= {"simulated": False, "source": work.site(cell)[1].source, "numbers": numbers}
    return found


def results(work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """All numbers of the page."""
    edge, hosts, main = map(about(work, options).__getitem__, ("edge", "hosts", "main"))
    jobs: dict[tuple[str, Cell], tuple[str, Cell]] = {}

    def ask(what: str, cell: Cell) -> None:
        jobs[what, cell] = what, cell

    for suite in SUITES:
        for board in edge:
            for scale in work.scales:
                ask("query", Cell(board, suite, scale))
            ask("errors", Cell(board, suite, main))
            ask("ablations", Cell(board, suite, main))
            ask("ablations", Cell(board, suite, work.scales[-2]))
            ask("objectives", Cell(board, suite, main))
            for mode in boards.modes(board)[1:] if not options.quick else ():
                ask("query", Cell(f"{board}:{mode}", suite, main))
        for board in hosts:
            for resident in (True, False):
                ask("query", Cell(board, suite, main, resident))
                for scale in work.scales:
                    if scale != main:
                        ask("host", Cell(board, suite, scale, resident))
        ask("load", Cell(edge[0], suite, main))
    ask("query", Cell(edge[0], "synthetic", main))
    for suite in (*SUITES, "synthetic"):
        for scale in work.run if suite != "synthetic" else (main,):
            work.plans(suite, scale)  # what has to run does so before processes are made
    begin = time.perf_counter()
    # the longest first: hosts, whose plans cannot be summed up
    order = sorted(jobs.values(), key=lambda job: (job[0] != "query" or job[1].board not in HOSTS, job[0]))
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        found = []
        for job, numbers in zip(order, pool.imap(functools.partial(_measure, work), order)):
            found.append({"what": job[0], "board": job[1].board, "suite": job[1].suite, "scale": job[1].scale})
            found[-1] |= {"resident": job[1].resident, "simulated": True, "source": numbers[0], "numbers": numbers[1]}
            if not options.quiet:
                print(f"{time.perf_counter() - begin:6.1f} s  {job[0]:10} {job[1]}", flush=True)
    found += costs_of_placing(work, options)
    return about(work, options) | {"cells": found}


def _measure(work: Work, job: tuple[str, Cell]) -> tuple[str, Any]:
    what, cell = job
    source = work.site(cell)[1].source
    if what == "load":
        return source, each(work, cell, functools.partial(measures.under_load, loads=LOADS))
    if what == "host":
        return source, each(work, cell, measures.host)
    return source, each(work, cell, getattr(measures, what))


def keep(found: dict[str, Any], folder: Path) -> None:
    """The numbers as JSON, a file for each kind of cells."""
    folder.mkdir(parents=True, exist_ok=True)
    for what in sorted({cell["what"] for cell in found["cells"]}):
        cells = [cell for cell in found["cells"] if cell["what"] == what]
        lines = ",\n".join(json.dumps(cell, separators=(",", ":")) for cell in cells)
        (folder / f"{what}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Numbers to four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How good FineQuery's placement is, in the simulator.")
    parser.add_argument("--quick", action="store_true", help="one board, one host, tiny data; nothing is kept")
    parser.add_argument("--data", type=Path, default=cache_dir() / "bench", help="data (default %(default)s)")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where experiments.md goes")
    parser.add_argument(
        "--json", type=Path, default=ROOT / "benchmarks" / "results" / "experiments", help="where the numbers go"
    )
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes (default %(default)s)")
    parser.add_argument("--placing", action="store_true", help="only what placing each query costs, shown and kept")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(argv)
    if options.quick and options.docs == ROOT / "docs":
        options.docs = options.json = Path(tempfile.mkdtemp(prefix="finequery-experiments-"))
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse_arguments(argv)
    options.data.mkdir(parents=True, exist_ok=True)
    run, scaled = ((0.01, 0.02), ()) if options.quick else (RUN, SCALED)
    work = Work(Data(options.data), options.data / "plans", run, scaled)
    if options.placing:
        found = rounded(about(work, options) | {"cells": costs_of_placing(work, options)})
        keep(found, options.json)
        page.renew(found, options.docs)
        print(placing.printed(found["cells"]))
        return 0
    found = rounded(results(work, options))
    keep(found, options.json)
    text = page.write(found, options.docs)
    print(text if options.quick else page.headlines(found))
    print(f"\n{options.docs / 'experiments.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
