"""A picture of ``finequery top`` as plain text: for pipes, logs, and terminals without rich. The words are the view's,
too."""

from __future__ import annotations

import time
from typing import NamedTuple

from finequery.bar import duration
from finequery.jetson.telemetry import Reading
from finequery.progress import PipelineProgress, Progress
from finequery.published import Process
from finequery.top import Snapshot

#: Columns of the text, and of a bar in it.
WIDTH, BAR = 80, 20


class Line(NamedTuple):
    """A gauge: what it is, its share from 0 to 1 (None: nobody knows), and the words beside it."""

    name: str
    share: float | None
    words: str


def gauges(snapshot: Snapshot) -> list[Line]:
    """Load of processor, GPU, memory bus and memory, with their clocks. What no sensor tells is left out."""
    r = snapshot.reading
    found = [
        Line("CPU", r.cpu_load, mhz(r.cpu_mhz)),
        Line("GPU", r.gpu_load, mhz(r.gpu_mhz)),
        Line("Memory bus", r.memory_load, mhz(r.memory_mhz)),
    ]
    if snapshot.memory_total:
        used, total = snapshot.memory_used / 2**30, snapshot.memory_total / 2**30
        found.append(Line("Memory", used / total, f"{used:.1f} of {total:.1f} GiB"))
    return [line for line in found if line.share is not None or line.words]


def mhz(clock: float | None) -> str:
    """A clock."""
    return "" if clock is None else f"{clock:,.0f} MHz"


def facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Power, temperatures, power mode, and load average, by name."""
    r = snapshot.reading
    found = [("Power", power(r))] if r.watts is not None else []
    if r.temperatures:
        found.append(("Temperature", ", ".join(f"{name} {value:.0f} °C" for name, value in r.temperatures.items())))
    if r.mode:
        found.append(("Power mode", r.mode))
    if r.throttled is not None:
        found.append(("Throttled", "yes: slowed down by heat, power or current" if r.throttled else "no"))
    if snapshot.load_average is not None:
        found.append(("Load average", "  ".join(f"{value:.2f}" for value in snapshot.load_average)))
    return found


def power(reading: Reading) -> str:
    """Watts in all and by rail."""
    rails = ", ".join(f"{name} {watts:.1f} W" for name, watts in reading.rails.items())
    return f"{reading.watts:.1f} W" + (f" ({rails})" if len(reading.rails) > 1 else "")


def heading(snapshot: Snapshot) -> str:
    """The machine and the time."""
    when = time.strftime("%H:%M:%S", time.localtime(snapshot.time))
    return f"{snapshot.machine} · {when}" + (f" · {snapshot.note}" if snapshot.note else "")


def query_words(query: Progress) -> str:
    """How far a query is, in words."""
    parts = [] if query.done is None else [f"{query.done:.0%}"]
    parts.append(duration(query.seconds))
    if query.remaining is not None:
        parts.append(f"{duration(query.remaining)} left")
    return ", ".join(parts)


def statement(query: Progress, width: int) -> str:
    """A statement on one line."""
    line = " ".join(query.text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def state(pipeline: PipelineProgress) -> str:
    """What a pipeline is doing: where, and how far."""
    if not pipeline.device:
        return "waiting"
    rows = f"{pipeline.done_rows:,} of {pipeline.rows:,} rows"
    return f"{pipeline.device}, {'done' if pipeline.done >= 1.0 else f'{pipeline.done:.0%}'}, {rows}"


def text(snapshot: Snapshot, width: int = WIDTH) -> str:
    """All of it."""
    lines = [heading(snapshot), ""]
    for gauge in gauges(snapshot):
        drawn = "" if gauge.share is None else f"{bar(gauge.share, BAR)} {gauge.share:4.0%}"
        lines.append(f"{gauge.name:<12} {drawn:<{BAR + 5}}  {gauge.words}".rstrip())
    lines += [f"{name:<12} {words}" for name, words in facts(snapshot)]
    lines += [f"not to be had: {reason}" for reason in snapshot.missing]
    lines += ["", *_queries(snapshot.processes, width)]
    return "\n".join(lines)


def _queries(processes: tuple[Process, ...], width: int) -> list[str]:
    if not any(process.queries for process in processes):
        return ["No query has been running for longer than half a second."]
    lines = []
    for process in processes:
        lines.append(f"{process.command} (process {process.pid})"[:width])
        for query in process.queries:
            lines.append("  " + statement(query, width - 2))
            share = "" if query.done is None else bar(query.done, BAR) + " "
            lines.append(f"  {share}{query_words(query)}  {query.doing}"[:width])
            lines += [f"    {p.number} {p.name}: {state(p)}"[:width] for p in query.pipelines]
    return lines


def bar(share: float, width: int) -> str:
    """A bar of so many columns."""
    filled = round(width * min(max(share, 0.0), 1.0))
    return "█" * filled + "·" * (width - filled)
