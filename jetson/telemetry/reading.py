"""What a sensor says at one moment, and what a source of such readings is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from finequery.jetson.telemetry.clocks import Clock

#: What a source may give: ``power`` stands for watts, rails and joules together; the others are fields of Reading.
GIVEN = (
    *("power", "cpu_load", "gpu_load", "memory_load", "cpu_mhz", "gpu_mhz", "memory_mhz"),
    *("temperatures", "mode", "throttled"),
)


#: Resolutions after which a reading that was not renewed says nothing any more.
OLD = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Values that belong together; None, "" or nothing in a dict where no sensor tells."""

    time: float  # time.monotonic() when the values were new, in seconds
    watts: float | None = None  # all that the source covers
    rails: dict[str, float] = field(default_factory=dict)  # watts by supply rail
    joules: float | None = None  # of a counter that began anywhere and never wraps: only differences mean something
    cpu_load: float | None = None  # share of all online cores' time that they were busy, 0 to 1
    gpu_load: float | None = None  # share of time in which a kernel ran, 0 to 1
    memory_load: float | None = None  # share of the memory's bandwidth (NVML: of its time), 0 to 1
    cpu_mhz: float | None = None  # mean of the online cores
    gpu_mhz: float | None = None
    memory_mhz: float | None = None
    temperatures: dict[str, float] = field(default_factory=dict)  # °C by place
    mode: str = ""  # power mode
    throttled: bool | None = None  # slowed down now, by heat, power or current


class Unavailable(Exception):
    """A source is not to be had here; ``hint`` says what would change that."""

    def __init__(self, reason: str, hint: str = ""):
        self.reason, self.hint = reason, hint
        super().__init__(f"{reason}. {hint}".strip() if hint else reason)


class Source(Protocol):
    """One kind of sensor. Its file has ``open_source(root) -> Source``, which raises Unavailable."""

    name: str
    resolution: float  # seconds from one new value to the next
    gives: frozenset[str]  # of GIVEN
    covers: str  # what its power is the power of; "" if it has none
    whole: bool  # whether that is the whole board, so that no other source's power adds to it

    def read(self) -> Reading: ...

    def close(self) -> None: ...


@runtime_checkable
class Clocked(Protocol):
    """A source that knows what the GPU's clock may be."""

    def gpu_clock(self) -> Clock: ...


@runtime_checkable
class Slowed(Protocol):
    """A source that knows what slows the machine down."""

    def throttling(self) -> list[str] | None: ...


@runtime_checkable
class Shared(Protocol):
    """A source that tells processes on the GPU apart."""

    def others(self, since: int) -> tuple[float, int] | None: ...


def fresh(last: Reading, resolution: float) -> Reading:
    """A program's last reading, unless it is so old that the program must have ended: then nothing is known."""
    now = time.monotonic()
    return last if now - last.time < OLD * resolution else Reading(now)


def share(value: float) -> float:
    """A load, from 0 to 1 whatever the sensor's rounding makes of it."""
    return min(max(value, 0.0), 1.0)
