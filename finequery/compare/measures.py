"""The formulas of a comparison, each in one place, and the paper's figures for them.

All times are seconds (or all milliseconds) of the same queries in the same order: ``mine`` on the one side, ``theirs``
on the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Published:
    """A figure of the paper: its value, how it is written, and what it is against."""

    value: float
    text: str
    against: str
    source: str


_SLIDES, _JOURNAL = "the author's slides", "IEEE TPDS 2022, abstract"

#: What is published of FineQuery's results. Which queries, scale, board and discrete GPU they are of is not published.
PAPER = {
    "single": Published(0.4281, "42.81 % less", "one device alone", _JOURNAL),
    "bandwidth": Published(2.39, "2.39 times", "one device alone", _JOURNAL),
    "latency": Published(0.5669, "56.69 % less", "the discrete architecture", _SLIDES),
    "cost": Published(21.0, "21 times", "the discrete architecture", _JOURNAL),
    "energy": Published(4.0, "4 times", "the discrete architecture", _JOURNAL),
}

#: Share of the peak bandwidth below which a ratio of shares says nothing: the columns were in caches.
IN_CACHE = 0.0005


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean; 0 of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def geomean(values: Iterable[float]) -> float:
    """Geometric mean."""
    return math.exp(mean(map(math.log, values)))


def percent(value: float) -> str:
    """0.0312 is 3.1 %."""
    return f"{100 * value:.1f} %"


def time_over(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Geometric mean of mine / theirs; above 1: theirs is faster."""
    return geomean(m / t for m, t in zip(mine, theirs))


def less_time(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Mean over queries of 1 - mine / theirs; negative: theirs is faster."""
    return mean(1.0 - m / t for m, t in zip(mine, theirs))


def faster(mine: Sequence[float], theirs: Sequence[float]) -> int:
    """In how many queries mine is faster."""
    return sum(m < t for m, t in zip(mine, theirs))


def per_unit(mine: Sequence[float], theirs: Sequence[float], my_units: float, their_units: float) -> float | None:
    """Mean over queries of (1 / (time · units)) on my side over the same on theirs: performance per dollar, or per watt
    of rated power. None where a side's units are not known."""
    if not my_units or not their_units:
        return None
    return mean(t / m for m, t in zip(mine, theirs)) * their_units / my_units


def times_less(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Mean over queries of theirs / mine: how many times fewer joules a query costs."""
    return mean(t / m for m, t in zip(mine, theirs))


class Priced(Protocol):
    """What has a price: the GPU's card (or the board), and the CPU beside it."""

    @property
    def usd(self) -> float: ...

    @property
    def host_usd(self) -> float: ...


def machine_price(of: Priced) -> float:
    """Dollars of GPU and CPU, as the papers of that group count: no memory, mainboard or power supply."""
    return of.usd + of.host_usd


def single_devices(cpu: Sequence[float], gpu: Sequence[float]) -> dict[str, list[float]]:
    """What one device alone may mean for each query: the CPU, the GPU, the better of both, or their mean."""
    pairs = list(zip(cpu, gpu))
    return {"cpu": list(cpu), "gpu": list(gpu), "better": [min(p) for p in pairs], "mean": [sum(p) / 2 for p in pairs]}
