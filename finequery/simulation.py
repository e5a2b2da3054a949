"""What a query would take on boards that are not here.

``count`` runs it once on this machine, for its answer and for the rows that really pass its pipelines. From then on the
query is numbers: ``Counted.on`` places it on a board as the scheduler would place its second run there, and runs that
in the board's simulator. Nothing of this machine's speed is in the result.

The columns are taken to be in the board's memory, as in the second run of a query; on a discrete GPU they are there
too, or with ``cold=True`` are copied to it first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finequery.connection import Connection
    from finequery.jetson.board import Board
    from finequery.planner.candidates import Asked
    from finequery.planner.scheduler import Simulated
    from finequery.planner.stages import Part

#: A board on which queries are planned while their rows are counted: any with a GPU.
ANY = "agx-xavier"


@dataclass(frozen=True, slots=True)
class OnBoard:
    """A query on a board. Everything is simulated. ``low`` and ``high`` are ``seconds`` times the relative interval of
    the performance model's price of the placed plan, which ``source`` names; what is wrong with the board's own numbers
    is not in it."""

    seconds: float
    low: float
    high: float
    joules: float  # with the board's power at rest
    idle_joules: float  # of these, at rest
    utilisation: float  # of the memories' peak bandwidth
    devices: tuple[str, ...]  # that its pipelines are placed on
    resident: bool  # the columns were on a discrete GPU already
    source: str
    run: Simulated

    def numbers(self) -> dict[str, Any]:
        """All but the seconds and the run, for JSON."""
        names = ("low", "high", "joules", "idle_joules", "utilisation", "devices", "resident", "source")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Counted:
    """A query that has run: its answer, and its pipelines with the rows that were counted."""

    rows: list[tuple[Any, ...]]
    parts: Sequence[Part]
    asked: Asked
    stored: Mapping[tuple[str, str], int]  # bytes of the encoded columns that it reads, by table and column

    def on(
        self, board: str, *, device: str = "auto", objective: str = "latency", cold: bool = False, gpu_load: float = 0.0
    ) -> OnBoard:
        """The query on a board of the library (``agx-xavier:15W``), placed for an objective. Raises OperationalError
        where there is no such board, and NotSupportedError where ``device`` is a GPU that it does not have."""
        from finequery import scheduling
        from finequery.errors import NotSupportedError
        from finequery.planner.placement import place
        from finequery.planner.scheduler import simulate
        from finequery.planner.stages import Site

        found = scheduling.board_named(board)
        if device == "gpu" and found.gpu is None:
            raise NotSupportedError(f"{found.title} has no GPU")
        cold = cold or (found.discrete and sum(self.stored.values()) > fits(found))
        site = Site(found, found.cpu.cores, {"gpu": gpu_load} if gpu_load else {}, resident=not cold)
        model = scheduling.model_of(found)
        asked = replace(self.asked, forced=device, objective=objective)
        schedule = place(self.parts, site, model, asked)
        placements = [p.chosen.placement for p in schedule.placed]
        run = simulate(self.parts, placements, site)
        timeline, price = run.timeline, schedule.price
        low, high = (end / price.seconds if price.seconds else 1.0 for end in (price.low, price.high))
        return OnBoard(
            timeline.seconds,
            timeline.seconds * low,
            timeline.seconds * high,
            timeline.joules,
            timeline.idle_joules,
            timeline.utilisation,
            tuple(sorted({p.device for p in placements})),
            not cold,
            model.source,
            run,
        )


#: The share of a memory that data may fill: the rest is the system's, and for what queries make.
USABLE = 0.7


def fits(board: Board) -> float:
    """Bytes of columns that a board's GPU keeps; of one with a single memory, that it holds."""
    return (board.gpu_memory or board.memory).capacity_bytes * USABLE


def count(connection: Connection, sql: str) -> Counted:
    """Run a query once. Raises what the query raises, and NotSupportedError where it is none.

    The connection must be of ``counting()``.
    """
    from finequery.errors import NotSupportedError

    relation = connection.sql(sql)
    if relation.plan is None:
        raise NotSupportedError("Only queries can be put on a board", hint="SELECT, FROM, WITH or VALUES.")
    rows = relation.fetchall()
    (scheduler,) = relation.plan.schedulers.values()
    scans = [part.info.source.item for part in scheduler.parts if part.info.source.kind == "scan"]
    columns = {(scan.table.name, name): scan.table.encoded(name) for scan in scans for name in scan.names}
    stored = {column: data.nbytes for column, data in columns.items() if data is not None}
    return Counted(rows, scheduler.parts, scheduler.asked, stored)


def counting(**options: Any) -> Connection:
    """A connection on which queries are counted: it runs them on the CPU, planned for a board with a GPU.
    ``options`` are those of ``connect``."""
    from finequery.connection import connect

    return connect(**options, board=ANY, device="cpu")
