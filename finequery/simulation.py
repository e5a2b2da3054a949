"""A query that was counted here (compare/simulate.py) on a board of the library: times and joules with an interval.

The query is placed on the board as the scheduler would place its second run there, and runs in the board's simulator.
Its columns are taken to be in the board's memory; on a discrete GPU they are there too, or with ``cold`` are copied to
it first. Nothing of this machine's speed is in the result, and nothing here was measured on the board.

Two things widen the interval: what the performance model says of the placed plan, relative to its price; and what
measured times of whole queries were over simulated ones, on the one machine where both are known (``validation``). The
second is of the simulator's CPU: no GPU has been measured. How wrong a board's own numbers are is not in it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finequery.compare.simulate import Counted
    from finequery.jetson.board import Board
    from finequery.operators.context import Placement
    from finequery.perfmodel.model import Model
    from finequery.planner.candidates import Asked
    from finequery.planner.scheduler import Simulated
    from finequery.planner.stages import Site

#: The share of a memory that columns may fill: the rest is the system's, and for what queries make.
USABLE = 0.7


@dataclass(frozen=True, slots=True)
class OnBoard:
    """A query on a board, simulated. ``low`` and ``high`` bound the seconds; the joules are as uncertain."""

    seconds: float
    low: float
    high: float
    joules: float  # with the board's power at rest
    idle_joules: float  # of these, at rest
    utilisation: float  # of the memories' peak bandwidth
    devices: tuple[str, ...]  # that its pipelines are placed on
    resident: bool  # the columns were on the GPU already
    source: str  # of the model's prices

    def numbers(self) -> dict[str, Any]:
        """All but the seconds, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "seconds"}


@dataclass(frozen=True, slots=True)
class Validation:
    """Measured over simulated times of ``queries`` whole queries: the 5th and the 95th percentile."""

    low: float
    high: float
    queries: int
    source: str
    results: str  # the file of benchmarks/results


@functools.cache
def validation() -> Validation:
    """What ``scripts/validate_simulator.py`` found last."""
    from finequery.jetson.board import FOLDER

    return Validation(**json.loads((FOLDER / "validation.json").read_text(encoding="utf-8")))


def on(
    query: Counted,
    board: Board,
    *,
    device: str = "auto",
    objective: str = "latency",
    cold: bool = False,
    size: float | None = None,
) -> OnBoard:
    """A query on a board, placed for an objective, or with everything on one ``device``. ``size``: bytes of the columns
    that it reads, unless they are those that are here. Raises NotSupportedError for a GPU that the board does not
    have."""
    from finequery import scheduling
    from finequery.errors import NotSupportedError
    from finequery.planner.stages import Site

    if device == "gpu" and board.gpu is None:
        raise NotSupportedError(f"{board.title} has no GPU")
    resident = not cold and fits(stored([query]) if size is None else size, board)
    model = scheduling.model_of(board, simulated=True)
    asked = replace(query.asked, forced=device, objective=objective)
    ran = run(query, Site(board, board.cpu.cores, resident=resident), model, asked)
    timeline = ran.simulated.timeline
    return OnBoard(
        timeline.seconds,
        ran.low,
        ran.high,
        timeline.joules,
        timeline.idle_joules,
        timeline.utilisation,
        tuple(sorted({p.device for p in ran.placements})),
        resident,
        model.source,
    )


@dataclass(frozen=True, slots=True)
class Ran:
    """A query that was placed and simulated. ``low`` and ``high`` bound its seconds."""

    simulated: Simulated
    placements: tuple[Placement, ...]
    low: float
    high: float


def run(query: Counted, site: Site, model: Model, asked: Asked) -> Ran:
    """Place a query at a site by what is asked, and simulate it there."""
    from finequery.planner.placement import place
    from finequery.planner.scheduler import simulate

    schedule = place(query.parts, site, model, asked)
    placements = tuple(p.chosen.placement for p in schedule.placed)
    simulated, price, known = simulate(query.parts, placements, site), schedule.price, validation()
    low, high = (end / price.seconds if price.seconds else 1.0 for end in (price.low, price.high))
    seconds = simulated.timeline.seconds
    return Ran(simulated, placements, seconds * low * known.low, seconds * high * known.high)


def fits(nbytes: float, board: Board) -> bool:
    """Whether columns can be resident where the board's GPU reads them: a GPU without memory of its own reads the
    host's."""
    return board.gpu_memory is None or nbytes <= room(board.gpu_memory.capacity_bytes)


def room(capacity_bytes: float) -> float:
    """Bytes of columns that a memory holds."""
    return capacity_bytes * USABLE


def stored(queries: Iterable[Counted]) -> int:
    """Bytes of the encoded columns that queries read, each counted once."""
    sizes: dict[tuple[int, str], int] = {}
    for query in queries:
        for part in query.parts:
            if part.info.source.kind == "scan":
                scan = part.info.source.item
                found = {name: scan.table.encoded(name) for name in scan.names}
                sizes |= {(id(scan.table), name): data.nbytes for name, data in found.items() if data is not None}
    return sum(sizes.values())
