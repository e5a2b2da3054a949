"""``finequery compare``: two machines, measured, simulated or brought as files, over the same queries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from finequery import workloads
from finequery.bench import record
from finequery.compare import comparison, page, sides, text, work
from finequery.compare.measure import measured
from finequery.compare.result import Result
from finequery.compare.sides import Side
from finequery.compare.simulate import Counted, counted, simulated
from finequery.compare.work import Work
from finequery.errors import ProgrammingError
from finequery.jetson import board as boards
from finequery.program import exit_code
from finequery.workloads.progress import Progress


def parser() -> argparse.ArgumentParser:
    """Of the command's words."""
    found = argparse.ArgumentParser(
        prog="finequery compare",
        description="Compare two machines over the same queries: latency, bandwidth utilisation, energy and "
        "performance per cost. A side is this machine ('this', 'this:cpu', 'this:gpu'), a simulated board "
        f"({', '.join(n for n in boards.names() if n != 'host')}; 'agx-xavier:15W', 'h100:gpu'), or a result file that "
        "was written on another machine.",
        epilog="With one side and --json, its result is written for another machine to compare with.",
    )
    found.add_argument("sides", nargs="+", metavar="SIDE", help="one or two sides")
    found.add_argument("--suite", choices=workloads.NAMES, help="a workload (default ssb)")
    found.add_argument("--scale", type=float, metavar="SF", help="its scale factor (default 1)")
    found.add_argument(
        "--queries", nargs="+", type=Path, metavar="FILE", help="own queries: .sql files or folders of them"
    )
    found.add_argument(
        "--data",
        nargs="+",
        metavar="FILE",
        help="own tables: Parquet or CSV files, called as the files are or name=FILE; with --suite: the folder of its "
        "Parquet files",
    )
    found.add_argument("--only", metavar="QUERY,…", help="some of the queries")
    found.add_argument(
        "--objective", choices=("latency", "energy", "edp"), default="latency", help="of simulated sides"
    )
    found.add_argument(
        "--seconds", type=float, default=1.0, help="for each query that is measured (default %(default)g)"
    )
    found.add_argument("--no-energy", action="store_true", help="measure no joules, which takes some 5 s a query")
    found.add_argument("--usd-a", type=float, metavar="USD", help="price of the first machine, in place of its board's")
    found.add_argument("--usd-b", type=float, metavar="USD", help="price of the second")
    found.add_argument(
        "--timeline", metavar="QUERY,…", help="queries whose timelines the page shows (default: the slowest)"
    )
    found.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    found.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with plots there, which needs nothing else"
    )
    return found


def main(arguments: Sequence[str]) -> int:
    """The command; its exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if len(options.sides) > 2:
        raise ProgrammingError(f"A comparison has two sides, not {len(options.sides)}: {', '.join(options.sides)}")
    if len(options.sides) == 1 and options.html:
        raise ProgrammingError("A page compares two sides", hint="Name another one, or write --json alone.")
    chosen = [sides.side(name) for name in options.sides]
    what = _work(options, chosen)
    results = run(chosen, what, options.objective, options.seconds, not options.no_energy)
    results = [sides.with_price(r, usd) for r, usd in zip(results, (options.usd_a, options.usd_b))]
    first, *rest = results
    if not rest:
        if options.json:
            record.write(options.json, first.record())
        print(text.one(first))
        return 0
    document = comparison.compare(first, rest[0], _words(options.timeline))
    if options.json:
        comparison.write(options.json, document)
    if options.html:
        page.write(options.html, document)
    print(text.show(document))
    return 0


def _words(given: str | None) -> list[str]:
    return [word.strip() for word in (given or "").split(",") if word.strip()]


def _work(options: argparse.Namespace, chosen: Sequence[Side]) -> Work | None:
    """What is to be run; None where both sides are files. What a file ran is what the other side runs, unless said."""
    files = [side.file for side in chosen if side.file is not None]
    if len(files) == len(chosen):
        if options.queries or options.data or options.suite or options.scale or options.only:
            raise ProgrammingError("Result files have their queries and data: leave out --suite, --scale, --queries, …")
        return None
    only = _words(options.only)
    if options.queries:
        if options.suite or options.scale:
            raise ProgrammingError("Queries of your own have no --suite and no --scale")
        if not options.data:
            raise ProgrammingError("Queries of your own need the files of their tables", hint="--data FILE …")
        return work.own(options.queries, options.data, only)
    like = files[0] if files else None
    if like is not None and like.suite == work.OWN:
        raise ProgrammingError(
            "The file has queries of somebody's own", hint="Give them again, by --queries and --data."
        )
    suite = options.suite or (like.suite if like else "ssb")
    scale = options.scale if options.scale is not None else like.scale if like else 1.0
    if like is not None and (suite, scale) != (like.suite, like.scale):
        raise ProgrammingError(
            f"The file has {like.suite} at scale {like.scale:g}, which {suite} at scale {scale:g} can't be held against"
        )
    if options.data and len(options.data) > 1:
        raise ProgrammingError("With a suite, --data is the one folder of its Parquet files")
    if only == [] and like is not None:
        only = list(like.queries)
    return work.suite(suite, scale, Path(options.data[0]).expanduser() if options.data else None, only)


def run(
    chosen: Sequence[Side],
    what: Work | None,
    objective: str = "latency",
    seconds: float = 1.0,
    energy: bool = True,
) -> list[Result]:
    """The results of sides. Queries run here once for all sides that are simulated, however many there are."""
    known: list[Counted] | None = None
    results = []
    for side in chosen:
        if side.file is not None:
            results.append(side.file)
            continue
        assert what is not None
        if side.measured:
            with Progress(f"measuring {side.text}", len(what.queries)) as bar:
                results.append(measured(side, what, seconds, energy, bar.step))
            continue
        if known is None:
            with Progress("running the queries once", len(what.queries)) as bar:
                known = counted(what, bar.step)
        results.append(simulated(side, what, known, objective))
    return results
