"""What the numbers of a comparison are called and how they are written: the same in the terminal, in Markdown and in
HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finequery import simulation
from finequery.compare.measures import percent
from finequery.compare.work import title

Document = dict[str, Any]

MARK = "simulated"
REGIMES = {"resident": "resident", "cold": "cold"}
#: What stands where a number is not known.
NONE = "–"


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of ``document["against"]``: how it is called and written, the paper's figure, and what it is."""

    key: str
    name: str
    write: Callable[[float], str]
    paper: str
    definition: str


def times(value: float) -> str:
    """2.39 times."""
    return f"{value:.3g}×"


MEASURES = (
    Measure("time_over", "time over", times, "", "geometric mean over queries of t_A / t_B; above 1: B is faster"),
    Measure("less_time", "less time", percent, "latency", "mean over queries of 1 − t_A / t_B; negative: B is faster"),
    Measure("faster", "queries in which A is faster", lambda n: f"{n:.0f}", "", "how many of the queries"),
    Measure(
        "per_cost",
        "performance per dollar, GPU and CPU",
        times,
        "cost",
        "mean over queries of (1 / (t · dollars)) of A over that of B; list prices of GPU and CPU, of a Jetson "
        "the board's, without memory, mainboard and power supply, as the papers of that group count",
    ),
    Measure("per_card", "performance per dollar, card alone", times, "", "the same, without the CPU beside the card"),
    Measure(
        "per_watt",
        "performance per rated watt",
        times,
        "energy",
        "mean over queries of (1 / (t · rated power)) of A over that of B; beside a card its CPU counts too",
    ),
    Measure(
        "joules",
        "fewer joules a query",
        times,
        "energy",
        "mean over queries of joules of B over joules of A: of the whole machine at rest, active cores and GPU, and "
        "bytes moved",
    ),
)


def heading(document: Document) -> str:
    """What was run."""
    count = len(document["queries"])
    return f"{title(document['suite'], document['scale'])}, {count} {'query' if count == 1 else 'queries'}"


def side_title(document: Document, side: str, regime: str = "", mark: bool = True) -> str:
    """A side for people; with a regime where it has two that differ, and whether it is simulated."""
    facts = document["sides"][side]
    text = facts["title"]
    if regime and facts["discrete"] and len(document["regimes"]) > 1:
        text += f", {REGIMES[regime]}"
    return f"{text} ({MARK})" if mark and facts["simulated"] else text


def series(document: Document) -> list[tuple[str, str]]:
    """The sides and regimes that are told apart, cold first: what a query has a bar for."""
    found = []
    for side in ("a", "b"):
        regimes = document["regimes"] if document["sides"][side]["discrete"] else ["resident"]
        found += [(side, regime) for regime in sorted(regimes) if _has(document, side, regime)]
    return found


def _has(document: Document, side: str, regime: str) -> bool:
    return all(regime in q[side]["placed"] for q in document["queries"])


def columns(document: Document) -> list[tuple[str, str]]:
    """Ways of B and regimes that A is held against: what FineQuery does there, and the GPU alone."""
    regimes = sorted(document["regimes"])
    return [(way, regime) for way in ("placed", "gpu") for regime in regimes if document["against"][way][regime]]


def against_title(document: Document, way: str, regime: str) -> str:
    """Such a column's name."""
    text = "FineQuery there" if way == "placed" else "its GPU alone"
    return f"{text}, {REGIMES[regime]}" if len(document["regimes"]) > 1 else text


def number(value: float | None) -> str:
    """Milliseconds or millijoules: three digits."""
    return NONE if value is None else f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A share of the peak bandwidth."""
    return NONE if value is None else percent(value)


#: What a side is held against when it is alone, and how that is called.
ALONE = {"cpu": "its CPU alone", "gpu": "its GPU alone", "better": "the better of both", "mean": "the mean of both"}

REGIME_NOTES = (
    "Cold: columns are in the host's memory, encoded, and a discrete GPU copies them over its link while kernels run. "
    "Resident: they are on the GPU already. A GPU that shares the CPU's memory reads them where they are: both are the "
    "same to it."
)
USED_NOTE = (
    "Bandwidth utilisation is bytes over time over the memories' peak: by operands, the sub-tasks' inputs and outputs "
    "(FineStream, USENIX ATC 2020, eq. 11), wherever they came from, which is known for measured runs too; and by "
    "traffic through the memories, behind the caches, which the simulator alone knows. The two are not to be compared "
    "with each other."
)
PAPER_NOTE = (
    "The paper's figures are of its own queries, scale, board and discrete GPU, none of which is published; its "
    'baseline is one device alone, or "the discrete architecture", for which the GPU alone stands here.'
)


def simulated_note() -> str:
    """What simulated figures are, and how far off they may be."""
    known = simulation.validation()
    return (
        "Simulated figures come from the discrete-event simulator of the board library (jetson/simulator.py): queries "
        "were run once on this machine's CPU for their answers and true numbers of rows, then placed and simulated on "
        "the board. No board has confirmed them. They have no spread, since the simulator is a function of plan and "
        "board, but an interval: what the performance model says of the placed plan, widened by what measured times of "
        f"{known.queries} queries were over simulated ones (5th to 95th percentile, {known.low:g} to {known.high:g}; "
        f"{known.source}), the only machine where both are known. How wrong a board's own numbers are is not in it."
    )


def bounds(document: Document, side: str) -> str:
    """What stands behind a side's times."""
    return "interval" if document["sides"][side]["simulated"] else "quartiles"


def about_queries(document: Document) -> list[str]:
    """What has to be said of single queries."""
    found: dict[str, list[str]] = {}
    for q in document["queries"]:
        for side, regime in series(document):
            note = q[side]["placed"][regime]["note"]
            if note:
                found.setdefault(f"{side_title(document, side, regime, mark=False)}: {note}", []).append(q["query"])
    return [f"{', '.join(queries)} on {note}." for note, queries in found.items()]
