"""``finequery advise``: which board, in which power mode, meets a latency or an energy for queries over data.

The queries run once here, for the rows that they really have; then every board of the library is asked in its
simulator (finequery/simulation.py). A target is met by a board that meets it with each of the queries.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finequery.errors import ProgrammingError
from finequery.program import exit_code
from finequery.workloads import NAMES

if TYPE_CHECKING:
    from finequery.compare.simulate import Counted
    from finequery.compare.work import Work
    from finequery.growth import Grown
    from finequery.jetson.board import Board
    from finequery.simulation import OnBoard

_UNITS = {
    "latency": {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0},
    "energy": {"uJ": 1e-6, "µJ": 1e-6, "mJ": 1e-3, "J": 1.0},
}
#: What a board may be said to do about a target, the best first. The interval lies below the target, its middle does,
#: its lower end does, or nothing of it; or the data does not fit into the board's memory.
VERDICTS = ("meets", "likely", "unlikely", "misses", "too small")


@dataclass(frozen=True, slots=True)
class Target:
    """Seconds (of ``latency``) or joules (of ``energy``) that no query may pass."""

    kind: str
    most: float


@dataclass(frozen=True, slots=True)
class Option:
    """A board in a power mode, with every query on it."""

    board: Board
    queries: Mapping[str, OnBoard]
    fits: bool

    @property
    def usd(self) -> float:
        """What it costs, with its host; 0 where no price is known."""
        return self.board.price.usd + self.board.price.host_usd

    def worst(self, kind: str) -> str:
        """The query that takes most."""
        return max(self.queries, key=lambda query: _amounts(self.queries[query], kind)[0])

    def amounts(self, kind: str) -> tuple[float, float, float]:
        """Seconds or joules of the worst query: expected, and the ends of the interval."""
        return _amounts(self.queries[self.worst(kind)], kind)

    def margin(self, target: Target) -> float:
        """The share of the target that is left: 0.25 where three quarters are used; below 0 where it is passed."""
        return 1.0 - self.amounts(target.kind)[0] / target.most

    def verdict(self, targets: Sequence[Target]) -> str:
        """Of ``VERDICTS``, the worst that holds for a target."""
        if not self.fits:
            return VERDICTS[-1]
        return max((_verdict(self.amounts(target.kind), target.most) for target in targets), key=VERDICTS.index)


def _amounts(found: OnBoard, kind: str) -> tuple[float, float, float]:
    """Energy is as uncertain as time, of which most of it is a multiple."""
    if kind == "latency":
        return found.seconds, found.low, found.high
    share = found.joules / found.seconds if found.seconds else 0.0
    return found.joules, share * found.low, share * found.high


def _verdict(amounts: tuple[float, float, float], most: float) -> str:
    expected, low, high = amounts
    return VERDICTS[0 if high <= most else 1 if expected <= most else 2 if low <= most else 3]


def boards(named: Sequence[str]) -> list[Board]:
    """The boards that are asked: all of the library in all power modes, or those that are named, in all modes or in
    one (``agx-xavier:15W``). Raises OperationalError for one that there is not."""
    from finequery.jetson import board

    found = []
    for name in named or [name for name in board.names() if name != "host"]:
        first = board.load(name)
        found.append(first)
        if ":" not in name and first.name != "host":
            found += [board.load(f"{first.name}:{mode}") for mode in board.modes(first.name)[1:]]
    return found


def options(
    queries: Sequence[Counted], asked: Sequence[Board], targets: Sequence[Target], grown: Grown | None = None
) -> list[Option]:
    """All boards with all queries: those that meet the targets first, then by price and by what the queries take."""
    from finequery import simulation

    size = simulation.stored(queries) if grown is None else grown.size(range(len(queries)))
    objective = "energy" if all(target.kind == "energy" for target in targets) else "latency"
    found = []
    for board in asked:
        if grown is None:
            runs = {query.name: simulation.on(query, board, objective=objective) for query in queries}
        else:
            runs = {query.name: grown.on(place, board, objective) for place, query in enumerate(queries)}
        found.append(Option(board, runs, size <= simulation.room(board.memory.capacity_bytes)))

    def order(option: Option) -> tuple[int, float, float]:
        met = VERDICTS.index(option.verdict(targets))
        return met, option.usd or math.inf, option.amounts(targets[0].kind)[0]

    return sorted(found, key=order)


def show(found: Sequence[Option], targets: Sequence[Target]) -> str:
    """The table, and what is to be known about it."""
    from finequery.bench.report import columns
    from finequery.simulation import validation

    head = ["board", "$", "slowest", "ms", "interval", "mJ", *(f"{t.kind} left" for t in targets), "verdict"]
    lines = [head]
    for option in found:
        expected, low, high = (1e3 * seconds for seconds in option.amounts("latency"))
        joules = option.amounts("energy")[0]
        cells = [option.board.name, f"{option.usd:,.0f}" if option.usd else "?", option.worst("latency")]
        cells += [f"{expected:.3g}", f"{low:.3g} to {high:.3g}", f"{1e3 * joules:.3g}"]
        lines.append([*cells, *(f"{option.margin(t):+.0%}" for t in targets), option.verdict(targets)])
    known = validation()
    said = [f"No board is likely to meet {words(targets)}."]
    sure, likely = (_cheapest(found, targets, verdict) for verdict in VERDICTS[:2])
    if sure is not None or likely is not None:
        said = [f"The cheapest that meets {words(targets)}: {_name(sure)}."]
        if likely is not None and (sure is None or likely.usd < sure.usd):
            said.append(f"The cheapest that probably does: {_name(likely)}.")
    estimates = sorted(len(option.board.estimates()) for option in found)
    return "\n".join(
        [
            *columns(lines),
            "",
            *said,
            "All figures are simulated: no board was measured. Columns are in memory, on a discrete GPU in its own;",
            "the price of a discrete GPU is with its host's CPU. mJ are the worst query's, with the board's rest.",
            f"Intervals: the performance model's (90 %, from its out-of-fold errors), times {known.low:g} to",
            f"{known.high:g}: what {known.queries} measured queries took over simulated ones ({known.source}).",
            f"No GPU is in that, nor that {estimates[0]} to {estimates[-1]} numbers of a board are estimates.",
        ]
    )


def _cheapest(found: Sequence[Option], targets: Sequence[Target], verdict: str) -> Option | None:
    """Of those with a verdict, which stand together by their prices."""
    return next((option for option in found if option.verdict(targets) == verdict), None)


def _name(option: Option | None) -> str:
    if option is None:
        return "none for sure"
    mode = option.board.mode
    return option.board.title + (f", {mode}" if mode else "")


def words(targets: Sequence[Target]) -> str:
    """The targets."""
    amounts = {"latency": lambda most: f"{1e3 * most:g} ms", "energy": lambda most: f"{1e3 * most:g} mJ"}
    return " and ".join(amounts[target.kind](target.most) for target in targets)


def document(
    found: Sequence[Option], targets: Sequence[Target], work: Work, size: float, grown: Grown | None
) -> dict[str, Any]:
    """All of it as JSON."""
    from finequery.simulation import validation

    known = validation()
    return {
        "simulated": True,
        "suite": work.suite,
        "scale": work.scale,
        "column_bytes": size,
        "foreseen": None if grown is None else {"table": grown.table, "rows": grown.rows, "times": grown.times},
        "targets": {target.kind: target.most for target in targets},
        "validation": {name: getattr(known, name) for name in known.__slots__},
        "boards": [
            {
                "board": option.board.name,
                "title": option.board.title,
                "mode": option.board.mode,
                "usd": option.usd,
                "price_source": option.board.sources.get("price.usd", ""),
                "fits": option.fits,
                "verdict": option.verdict(targets),
                "margin": {target.kind: option.margin(target) for target in targets},
                "estimates": len(option.board.estimates()),
                "queries": {name: {"seconds": run.seconds, **run.numbers()} for name, run in option.queries.items()},
            }
            for option in found
        ],
    }


def amount(kind: str, text: str) -> float:
    """``10ms`` or ``50mJ`` in seconds or joules. Raises ProgrammingError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Zµ]+)\s*", text)
    units = _UNITS[kind]
    if match is None or match[2] not in units or not float(match[1]) > 0.0:
        example = "10ms" if kind == "latency" else "50mJ"
        raise ProgrammingError(
            f'"{text}" is no {kind}', hint=f"A number above 0 with {', '.join(units)}, as {example}."
        )
    return float(match[1]) * units[match[2]]


def main(arguments: Sequence[str]) -> int:
    """The command; its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.latency and not given.energy:
        parser.error("a target is needed: --latency 10ms or --energy 50mJ")
    if bool(given.suite) == bool(given.queries):
        parser.error("either --queries of your own or a --suite")
    if given.scale is not None and not given.suite:
        parser.error("--scale is of a --suite")
    if given.scale_to is not None and given.suite:
        parser.error("--scale-to is for data of your own: a --suite has a --scale")
    texts = {"latency": given.latency, "energy": given.energy}
    return exit_code(lambda: _advise(given, [Target(kind, amount(kind, text)) for kind, text in texts.items() if text]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="finequery advise",
        description="Which board, in which power mode, meets a target with each query: simulated on all boards.",
    )
    parser.add_argument("--queries", nargs="+", type=Path, metavar="FILE", help=".sql files, or folders of them")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="FILE",
        help="Parquet or CSV files: tables by name, or name=FILE",
    )
    parser.add_argument("--suite", choices=NAMES, help="a workload instead, with a --scale; --data is its folder")
    parser.add_argument("--scale", type=float, metavar="S", help="scale factor of the suite (default 1)")
    parser.add_argument(
        "--scale-to",
        type=int,
        metavar="ROWS",
        help="foresee so many rows of the largest table, at most 16 times those here",
    )
    parser.add_argument("--only", default="", metavar="Q,…", help="some of the queries")
    parser.add_argument("--latency", metavar="TIME", help="such as 10ms")
    parser.add_argument("--energy", metavar="ENERGY", help="of a query, such as 50mJ")
    parser.add_argument("--boards", default="", metavar="B,…", help="only these, such as agx-xavier,orin-nano:15W")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


def _advise(given: argparse.Namespace, targets: Sequence[Target]) -> int:
    from finequery import simulation
    from finequery.compare import work
    from finequery.compare.simulate import counted
    from finequery.growth import grow
    from finequery.workloads.progress import Progress

    asked = boards([name for name in given.boards.split(",") if name])
    only = [name for name in given.only.split(",") if name]
    if given.suite and len(given.data) > 1:
        raise ProgrammingError("With a suite, --data is the one folder of its Parquet files")
    if given.suite:
        folder = Path(given.data[0]) if given.data else None
        what = work.suite(given.suite, 1.0 if given.scale is None else given.scale, folder, only)
    else:
        what = work.own(given.queries, given.data, only)
    runs = 1 if given.scale_to is None else 3
    with Progress("running the queries once", runs * len(what.queries)) as bar:
        grown = None if given.scale_to is None else grow(what, given.scale_to, bar.step)
        queries = counted(what, bar.step) if grown is None else grown.samples[-1]
    found = options(queries, asked, targets, grown)
    size = simulation.stored(queries) if grown is None else grown.size(range(len(queries)))
    title = work.title(what.suite, what.scale)
    print(f"{title}: {len(queries)} queries over {size / 1e6:,.1f} MB of columns; simulated")
    if grown is not None:
        print(f'Foreseen for {given.scale_to:,} rows of "{grown.table}", which has {grown.rows:,}: numbers grow on')
        print(
            "as from half of its rows to all. Intervals are wider by what that misses from a quarter and half to all."
        )
    print()
    print(show(found, targets))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(
            json.dumps(document(found, targets, what, size, grown), indent=1) + "\n", encoding="utf-8"
        )
    return 0
