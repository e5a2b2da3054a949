"""The command ``finequery bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from finequery import workloads
from finequery.bench import diff, engines, record, report, run
from finequery.bench.engines import OURS, RIVALS, Engine
from finequery.bench.record import Results
from finequery.errors import OperationalError
from finequery.jetson.board import load
from finequery.jetson.telemetry import open_power
from finequery.program import exit_code

if TYPE_CHECKING:
    from finequery.compare.work import Work

EPILOG = """\
finequery bench diff A.json B.json compares two files of results.

Tables are loaded into each engine's memory. Every answer is compared with DuckDB's where it is installed, before it is
timed; engines take turns. ± is half the range of the middle half of the runs. With --board the queries run here once,
for their rows, and all times are the board's, simulated."""


def main(arguments: Sequence[str]) -> int:
    """The command; its exit code: 1 where a query failed, or an answer was wrong."""
    if list(arguments[:1]) == ["diff"]:
        compared = _diff_parser().parse_args(arguments[1:])
        return exit_code(lambda: _diff(compared))
    parser = _parser()
    options = parser.parse_args(arguments)

    def run_suite() -> int:
        _refuse(parser, options)
        return _bench(options)

    return exit_code(run_suite)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="finequery bench",
        description="Time a workload on FineQuery, and beside it on the engines that are installed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", choices=workloads.NAMES, help="the workload (or diff)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--scale", type=float, metavar="S", help="scale factor (default 1; clickbench-like: 1 M rows)")
    size.add_argument("--rows", type=int, metavar="N", help="clickbench-like: rows of the table")
    parser.add_argument("--only", default="", metavar="QUERY,…", help="some of the queries, such as q1.1,q2.1")
    parser.add_argument(
        "--engines", metavar="E,…", help=f"compare with: {','.join(RIVALS)}, or none (default: those installed)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of each engine (default: all cores)")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="where FineQuery runs")
    parser.add_argument("--board", metavar="NAME", help="simulate a board, such as agx-xavier:15W")
    parser.add_argument(
        "--cold", action="store_true", help="on a simulated board's discrete GPU: columns are copied to it first"
    )
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="for each query (default %(default)g)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the data is, or is made (default: the cache)")
    parser.add_argument("--energy", action="store_true", help="measure joules too, where there is a sensor of power")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    return parser


def _refuse(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What makes no sense, before anything is made."""
    if options.rows is not None:
        if options.suite != "clickbench-like":
            parser.error(f"--rows is for clickbench-like; {options.suite} has a --scale")
        options.scale = options.rows / workloads.module(options.suite).ROWS
    options.scale = 1.0 if options.scale is None else options.scale
    if not 0.0 < options.scale < float("inf"):
        parser.error(f"there is no data of scale {options.scale:g}")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads must be 1 or more, not {options.threads}")
    if not options.seconds >= 0.0:
        parser.error(f"--seconds must be 0 or more, not {options.seconds:g}")
    if options.board and (options.engines or options.threads):
        parser.error("--engines and --threads are for this machine: a simulated --board runs FineQuery on all cores")
    if options.energy and options.board:
        parser.error("--energy is measured here; what a simulated --board takes is always shown")
    if options.cold and not options.board:
        parser.error("--cold is for a simulated --board")
    wanted = None if options.engines is None else options.engines.split(",")
    options.rivals = engines.installed() if wanted is None else [] if wanted == ["none"] else wanted
    for name in options.rivals:
        if name not in RIVALS:
            parser.error(f'no engine "{name}": {", ".join(RIVALS)}, or none')
        if name not in engines.installed():
            parser.error(f"{name} is not installed: pip install {name}")


def _bench(options: argparse.Namespace) -> int:
    from finequery.compare import work

    only = [name for name in options.only.split(",") if name]
    workloads.queries(options.suite, only)  # which says what there is, before data is made
    results = _on_board(options) if options.board else _here(options)
    what = work.suite(options.suite, options.scale, options.data, only)
    if options.board:
        run.simulate(results, what, load(options.board), options.device, options.cold)
    else:
        _engines(results, what, options)
    print(report.show(results))
    if options.json:
        record.write(options.json, results)
    return int(any("problem" in entry for entry in results.engines[OURS].values()))


def _on_board(options: argparse.Namespace) -> Results:
    board = load(options.board)
    about = {"board": board.title + (f", {board.mode}" if board.mode else "")}
    return Results(options.suite, options.scale, about, {}, simulated=True, board=board.name)


def _here(options: argparse.Namespace) -> Results:
    from finequery.settings import available_cores

    if options.device == "gpu":
        from finequery.jetson import device

        if device.probe() is None:
            raise OperationalError("There is no GPU here", hint="--board simulates one.")
    about = record.machine(options.threads or available_cores()) | {"device": options.device}
    return Results(options.suite, options.scale, about, record.conditions())


def _engines(results: Results, what: Work, options: argparse.Namespace) -> None:
    from finequery.operators import native

    native.load()  # on a machine's first start this compiles the kernels
    threads = results.machine["threads_used"]
    mine = engines.FineQuery(threads, options.device)
    running: list[Engine] = [mine, *(engines.rival(name, threads) for name in options.rivals)]
    try:
        problems = run.load(running, what.tables)
        if OURS in problems:
            raise OperationalError(f"{OURS}: {problems[OURS]}")
        for name, problem in problems.items():
            print(f"warning: {name}: {problem}", file=sys.stderr)
        ready = [engine for engine in running if engine.name not in problems]
        reference = next((e for e in ready if isinstance(e, engines.DuckDB)), mine)
        with open_power() if options.energy else nullcontext() as telemetry:
            if telemetry is not None and telemetry.name == "none":
                raise OperationalError("--energy: there is no sensor of power here")
            run.measure(results, what.queries, ready, reference, options.seconds, telemetry)
    finally:
        for engine in running:
            engine.close()


def _diff_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="finequery bench diff",
        description="Compare two files of results query by query: the later time over the earlier one, with the bounds "
        "that the spread of the runs allows.",
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--least",
        type=float,
        default=diff.LEAST,
        metavar="SHARE",
        help="the least change that counts (default %(default)g)",
    )
    parser.add_argument("--check", action="store_true", help="end with 1 where a query became slower or fails now")
    return parser


def _diff(options: argparse.Namespace) -> int:
    before, after = record.read(options.before), record.read(options.after)
    diff.check(before, after)
    print(diff.show(before, after, options.least))
    if not options.check:
        return 0
    mine = [found for found in diff.differences(before, after) if found.engine == OURS]
    return int(any(diff.worse(change, options.least) for found in mine for change in found.changes))
