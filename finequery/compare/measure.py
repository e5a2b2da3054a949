"""The side that is this machine: every query measured, in the regimes that the machine has."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finequery import scheduling
from finequery.bench.measure import interleave
from finequery.bench.record import conditions, machine
from finequery.compare.result import Answered, Facts, Result, Run
from finequery.compare.sides import Side, board_facts
from finequery.compare.simulate import in_words, operand_bytes, stretches
from finequery.compare.work import Work, digest
from finequery.energy import Energy, measure
from finequery.errors import NotSupportedError
from finequery.jetson import device as devices
from finequery.jetson.telemetry import open_power
from finequery.planner.features import observed
from finequery.planner.subtasks import split

if TYPE_CHECKING:
    from finequery.connection import Connection
    from finequery.jetson.telemetry import Telemetry
    from finequery.relation import Relation

#: Runs before the first that counts: one plans and encodes, the next is placed by the rows that the first counted.
WARM = 2


def measured(
    side: Side,
    work: Work,
    seconds: float = 1.0,
    energy: bool = True,
    progress: Callable[[str], None] = lambda name: None,
) -> Result:
    """This machine's side. ``seconds``: spent on the runs of a query, for each way and regime; ``energy``: runs for its
    joules besides, which takes seconds more, where there is a sensor.

    Raises NotSupportedError where there is no GPU to be measured.
    """
    gpu = devices.probe()
    real = gpu is not None and not gpu.simulated
    if side.device == "gpu" and not real:
        what = "only Numba's simulator of one, which has no times" if gpu is not None else "none"
        raise NotSupportedError(
            f'"{side.text}": of GPUs this machine has {what}', hint="Compare this:cpu, or a board of the library."
        )
    known = scheduling.described() if real else None
    discrete = gpu is not None and real and not gpu.integrated
    ways = {"placed": side.device if real else "cpu"}
    if real and side.device == "auto":
        ways |= {"cpu": "cpu", "gpu": "gpu"}
    found = {}
    with work.open(device=ways["placed"]) as connection, open_power() as sensors:
        watched = sensors if energy and sensors.name != "none" else None
        for name, sql in work.queries.items():
            progress(name)
            runs: dict[str, dict[str, Run]] = {}
            for way, device in ways.items():
                connection.execute(f"set device = '{device}'")
                runs[way], last = _runs(connection, sql, seconds, discrete and device != "cpu", watched)
            if ways["placed"] in ("cpu", "gpu"):
                runs[ways["placed"]] = runs["placed"]
            assert last.plan is not None
            words = tuple(map(in_words, split(last.plan.root)))
            found[name] = Answered(len(last), runs, digest(sql), words)
        about = machine(connection.settings["threads"])
    facts = _facts(side, about, None if gpu is None or not real else gpu.board or gpu.name, known, discrete)
    return Result(facts, work.suite, work.scale, found, about, conditions())


def _facts(side: Side, about: dict[str, Any], gpu: str | None, known: Any, discrete: bool) -> Facts:
    """Of a machine that no board describes, the CPU's half is guessed by the reference board."""
    title = str(gpu if gpu and side.device != "cpu" else about.get("cpu") or "this machine")
    board = known or scheduling.board_named("host")
    facts = board_facts(board, side.device, simulated=False, title=title)
    if known is None:
        peak = {path: text for path, text in facts.sources.items() if path.endswith("peak_gbs")}
        facts = replace(facts, board="", usd=0.0, host_usd=0.0, tdp_w=0.0, discrete=discrete, sources=peak)
    return facts


def _runs(
    connection: Connection, sql: str, seconds: float, copied: bool, sensors: Telemetry | None
) -> tuple[dict[str, Run], Relation]:
    """Runs by regime, and one of them. Where nothing has to be copied, cold is resident."""

    def answer() -> Relation:
        return connection.sql(sql).execute()

    for _ in range(WARM):
        last = answer()
    resident = _timed(answer, last, seconds, sensors)
    if not copied:
        return {"resident": resident, "cold": resident}, last
    trim = connection._session.device().trim
    trim()
    cold = answer()
    trim()
    return {"resident": resident, "cold": _timed(answer, cold, seconds, sensors, trim)}, last


def _timed(
    answer: Callable[[], Relation],
    last: Relation,
    seconds: float,
    sensors: Telemetry | None,
    after: Callable[[], None] = lambda: None,
) -> Run:
    """``last``: a run of the same, for its timeline. ``after``: what has to be done after each run."""
    times = interleave({"": answer}, seconds, after)[""]
    assert last.plan is not None and last._ran is not None
    seen = observed(split(last.plan.root), last._ran)

    def run() -> None:
        answer()
        after()

    found = Energy(0.0, 0, "") if sensors is None else measure(run, sensors)
    low, _, high = statistics.quantiles(times, n=4)
    return Run(
        tuple(times),
        low,
        high,
        found.joules,
        found.idle_joules,
        operand_bytes(o.features for o in seen),
        timeline=stretches(last.timeline()),
        note=found.note,
    )
