"""``finequery top``: what the machine and FineQuery's queries on it are doing, live.

Sensors come from ``finequery.jetson.telemetry``, running queries from the files that processes publish
(``finequery.published``). Without a terminal, or with ``--once``, one picture is printed as plain text.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from finequery.errors import Error
from finequery.jetson.telemetry import LOADS, Reading, open_telemetry
from finequery.published import Process, processes

#: Seconds between two readings where the loads are shares of the time between them.
FIRST = 0.2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to see at one moment. ``note`` says where it comes from if that is not this machine."""

    machine: str
    reading: Reading
    memory_used: int
    memory_total: int
    load_average: tuple[float, float, float] | None
    processes: tuple[Process, ...]
    missing: tuple[str, ...] = ()
    note: str = ""
    time: float = field(default_factory=time.time)


def look(telemetry: Any, machine: str) -> Snapshot:
    """The machine and its queries now."""
    used, total = memory()
    missing = tuple(one.reason for one in telemetry.missing if one.hint)
    return Snapshot(machine, telemetry.read(), used, total, os.getloadavg(), tuple(processes()), missing)


def memory() -> tuple[int, int]:
    """Bytes of main memory in use, and of all."""
    found = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(":")
                found[name] = int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return 0, 0
    total = found.get("MemTotal", 0)
    return total - found.get("MemAvailable", total), total


def machine_name() -> str:
    """The board or processor, and the GPU if there is one."""
    from finequery.jetson.device import probe, processor

    gpu = probe()
    name = processor().name
    return name if gpu is None or gpu.simulated else f"{name}, {gpu.name}"


def main(arguments: Sequence[str]) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="finequery top",
        description="Show load, clocks, temperatures and power of this machine, and the queries that processes of this "
        "user run with FineQuery for longer than half a second. Ctrl-C leaves.",
    )
    parser.add_argument("--once", action="store_true", help="print one picture as text and leave")
    parser.add_argument("--every", type=float, default=1.0, metavar="S", help="seconds between pictures (default: 1)")
    parser.add_argument("--svg", metavar="FILE", help="write one picture as SVG and leave (needs rich)")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.every <= 3600:
        parser.error(f"--every must be from 0.1 to 3600 seconds, not {options.every:g}")
    try:
        return _show(options)
    except Error as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _show(options: argparse.Namespace) -> int:
    live = not options.once and not options.svg and sys.stdout.isatty()
    rich = _has_rich()
    if options.svg and not rich:
        print("An SVG picture needs rich: pip install 'finequery[shell]'", file=sys.stderr)
        return 1
    if live and not rich:
        print("The live view needs rich: pip install 'finequery[shell]'. This is one picture.", file=sys.stderr)
        live = False
    name = machine_name()
    with open_telemetry() if live or options.svg else open_telemetry(order=_ONCE) as telemetry:
        telemetry.read()
        time.sleep(FIRST)  # loads are shares of a time that has to pass
        if live:
            return _live(telemetry, name, options.every)
        snapshot = look(telemetry, name)
    if options.svg:
        from finequery import top_view

        top_view.save_svg(snapshot, options.svg)
        print(f"{options.svg} is written")
    else:
        from finequery import top_text

        print(top_text.text(snapshot))
    return 0


#: Sources for one picture: those that answer at once.
_ONCE = ("ina3221", "rapl", *LOADS)


def _has_rich() -> bool:
    from importlib.util import find_spec

    return find_spec("rich") is not None


def _live(telemetry: Any, name: str, every: float) -> int:
    from rich.console import Console
    from rich.live import Live

    from finequery import top_view
    from finequery.shell import interrupts

    console = Console()
    left = threading.Lock()  # taken until Ctrl-C; not an Event, in whose own lock a second one might come
    left.acquire()

    def leave() -> bool:
        with suppress(RuntimeError):  # pressed again
            left.release()
        return True

    def draw() -> None:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(top_view.view(look(telemetry, name), console.width), refresh=True)
                if left.acquire(timeout=every):
                    return

    interrupts.run(draw, leave)
    return 0
