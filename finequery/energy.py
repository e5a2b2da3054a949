"""The energy of a query: power integrated over repeated runs, with the machine's rest measured before and shown.

    energy = measure(lambda: con.sql("select …").execute())
    energy.joules, energy.idle_joules, energy.net

A sensor renews its value every ``telemetry.resolution`` seconds, which is longer than most queries take, and averages
over that time. So a query is run again and again. The window that counts begins when the sensor has seen nothing but
runs for a while, and ends while they still go on. Where the sensor counts joules, their difference over the window is
its energy; else power is integrated over the readings' time stamps by the trapezoid rule. That divided by the window is
the mean power, and times the time of a run the energy of a run.

The window grows until the mean power above rest has a relative standard error of ``ERROR``, with at least ``LEAST``
readings of loaded power and of rest, and at most ``at_most_s``. The error of a mean of n readings is s / √n; that of
power above rest has those of load and rest, added as squares. Of counters, each interval between two readings is one,
and both ends of the window are off by up to the sensor's resolution.
What has not ended by then, or is no more than ``SIGNIFICANT`` standard errors above rest, is too short to measure.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finequery.jetson.telemetry import Reading, Telemetry
    from finequery.planner.scheduler import Simulated

#: Wanted relative standard error of the power above rest, and how many errors it must be to mean anything.
ERROR, SIGNIFICANT = 0.05, 2.0
#: Readings of each of load and rest below which no error is known.
LEAST = 10
#: Rest is measured before: at least so many seconds and readings of the sensor, and as often as this if it is unsteady.
REST_S, REST_READINGS, REST_TIMES = 1.0, 12, 3
#: Seconds between two readings at the least, however fine the sensor is: reading it takes time as well.
FINEST_S = 0.01
TOO_SHORT = "too short to measure"


@dataclass(frozen=True, slots=True)
class Energy:
    """What one run of a query takes. ``joules`` with the machine's rest; None where there is no figure: ``note`` then
    says why. ``error``: relative standard error of what is above rest."""

    seconds: float  # a run
    repeats: int
    source: str  # the sensor, and what its power is of
    joules: float | None = None  # a run, in all
    idle_joules: float | None = None  # of it, what the machine at rest takes in that time
    watts: float | None = None  # while it runs
    idle_watts: float | None = None
    error: float | None = None
    rails: dict[str, float] = field(default_factory=dict)  # mean watts while it runs
    simulated: bool = False
    note: str = ""

    @property
    def net(self) -> float | None:
        """Joules of a run above the machine's rest."""
        return None if self.joules is None or self.idle_joules is None else self.joules - self.idle_joules

    def __str__(self) -> str:
        """For people."""
        runs = f"{_unit(self.seconds, 's')} a run, {self.repeats:,} run{'' if self.repeats == 1 else 's'}"
        if self.joules is None or self.net is None or self.watts is None or self.idle_watts is None:
            return f"{self.note}; {runs}; {self.source}" if self.source else f"{self.note}; {runs}"
        error = f" ±{self.error:.0%}" if self.error is not None else ""
        said = "simulated: " if self.simulated else ""
        return (
            f"{said}{_unit(self.joules, 'J')} a run, of which {_unit(self.idle_joules or 0.0, 'J')} at rest and "
            f"{_unit(self.net, 'J')}{error} above it; {self.watts:.2f} W, at rest {self.idle_watts:.2f} W; "
            f"{runs}; {self.source}" + (f"; {self.note}" if self.note else "")
        )


def measure(
    run: Callable[[], object],
    telemetry: Telemetry | None = None,
    at_least_s: float = 2.0,
    at_most_s: float = 30.0,
    error: float = ERROR,
) -> Energy:
    """The energy of ``run``, which is called often, at least twice. Opens the finest sensors where none are given.
    ``at_least_s`` and ``at_most_s`` bound the seconds of the counted runs; one run is never cut short."""
    if telemetry is not None:
        return _measure(run, telemetry, at_least_s, at_most_s, error)
    from finequery.jetson.telemetry import open_power

    with open_power() as found:
        return _measure(run, found, at_least_s, at_most_s, error)


def of_simulated(simulated: Simulated) -> Energy:
    """What the simulator says of a query on a board."""
    timeline, board = simulated.timeline, simulated.site.board
    seconds = timeline.seconds or math.inf
    return Energy(
        timeline.seconds,
        1,
        f"simulator of {board.title}",
        timeline.joules,
        timeline.idle_joules,
        timeline.joules / seconds,
        timeline.idle_joules / seconds,
        simulated=True,
    )


def _measure(
    run: Callable[[], object], telemetry: Telemetry, at_least_s: float, at_most_s: float, error: float
) -> Energy:
    source = f"{telemetry.name} ({telemetry.covers})" if telemetry.covers else telemetry.name
    first = telemetry.power()
    if telemetry.name == "none":
        begin = time.monotonic()
        run()
        why = "; ".join(str(one) for one in telemetry.missing if one.hint)
        return Energy(time.monotonic() - begin, 1, "", note="no sensor of power" + (f": {why}" if why else ""))
    pause = max(telemetry.resolution, FINEST_S)
    rest = _Window(telemetry, pause, after=first.time + telemetry.resolution)
    with rest:
        time.sleep(telemetry.resolution)
        for _ in range(REST_TIMES):
            time.sleep(max(REST_S, REST_READINGS * pause))
            mean = _mean(rest.powers)
            if mean is not None and mean[1] <= error / 2 * mean[0]:
                break
    begin = time.monotonic()
    while True:  # until the sensor's average has forgotten the rest
        run()
        if time.monotonic() - begin >= telemetry.resolution:
            break
    window, repeats, gone = _Window(telemetry, pause), 0, 0.0
    look = at_least_s
    begin = time.monotonic()
    with window:
        while gone < at_most_s:
            run()
            repeats += 1
            gone = time.monotonic() - begin
            if gone >= look:  # seldom: looking costs power
                if _error(window, rest) <= error:
                    break
                look = gone + LEAST * pause
    seconds = gone / repeats
    return _energy(seconds, repeats, source, window, rest, error)


def _energy(seconds: float, repeats: int, source: str, window: _Window, rest: _Window, error: float) -> Energy:
    found, load, idle = _error(window, rest), window.watts, rest.watts
    readings = min(len(window.powers), len(rest.powers))
    if load is None or idle is None or readings < LEAST:
        return Energy(
            seconds, repeats, source, note=f"{TOO_SHORT}: {readings} readings of the sensor, {LEAST} are needed"
        )
    if found * SIGNIFICANT > 1.0:
        note = f"{TOO_SHORT}: {load:.2f} W are not enough above the {idle:.2f} W of rest to tell them apart"
        return Energy(seconds, repeats, source, watts=load, idle_watts=idle, note=note)
    note = f"not settled: {error:.0%} was wanted" if found > error else ""
    return Energy(seconds, repeats, source, load * seconds, idle * seconds, load, idle, found, window.rails, note=note)


class _Window:
    """Readings of a thread of its own while the block runs. ``after``: those before are not counted."""

    def __init__(self, telemetry: Telemetry, pause: float, after: float = -math.inf):
        self._telemetry, self._pause, self._after = telemetry, pause, after
        self._readings: list[Reading] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="finequery-energy", daemon=True)

    def __enter__(self) -> _Window:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            reading = self._telemetry.power()
            if reading.time > self._after and (not self._readings or reading.time > self._readings[-1].time):
                self._readings.append(reading)
            if self._stop.wait(self._pause):
                return

    @property
    def powers(self) -> list[float]:
        """Watts, one for each reading that says something new: of a counter, over each interval."""
        return powers(self._readings)

    @property
    def watts(self) -> float | None:
        """Mean power over the window."""
        readings = list(self._readings)
        gone = readings[-1].time - readings[0].time if readings else 0.0
        return integral(readings) / gone if gone > 0 else None

    @property
    def ends(self) -> float:
        """Standard error, in watts, of a counter's difference: either end is up to ``resolution`` old."""
        watts, readings = self.watts, self._readings
        if watts is None or readings[0].joules is None:
            return 0.0
        return watts * self._telemetry.resolution / math.sqrt(6) / (readings[-1].time - readings[0].time)

    @property
    def rails(self) -> dict[str, float]:
        """Mean watts by rail."""
        names = dict.fromkeys(name for reading in self._readings for name in reading.rails)
        return {
            name: sum(reading.rails.get(name, 0.0) for reading in self._readings) / len(self._readings)
            for name in names
        }


def powers(readings: Sequence[Reading]) -> list[float]:
    """Watts of readings: of those of a counter, over each interval in which it moved."""
    readings = list(readings)
    if not readings or readings[0].joules is None:
        return [reading.watts for reading in readings if reading.watts is not None]
    found, last = [], readings[0]
    for reading in readings[1:]:
        gone = (reading.joules or 0.0) - (last.joules or 0.0)
        if gone > 0:  # else the counter was not renewed yet
            found.append(gone / (reading.time - last.time))
            last = reading
    return found


def integral(readings: Sequence[Reading]) -> float:
    """Joules from the first reading to the last: the difference of a counter, else the trapezoid rule over power."""
    readings = list(readings)
    if len(readings) < 2:
        return 0.0
    if readings[0].joules is not None and readings[-1].joules is not None:
        return readings[-1].joules - readings[0].joules
    known = [(reading.time, reading.watts) for reading in readings if reading.watts is not None]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(known))


def _error(window: _Window, rest: _Window) -> float:
    """Relative standard error of the power above rest; infinite where it is not known."""
    load, idle = _mean(window.powers), _mean(rest.powers)
    if load is None or idle is None:
        return math.inf
    above = load[0] - idle[0]
    return math.hypot(load[1], idle[1], window.ends) / above if above > 0 else math.inf


def _mean(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean and its standard error; None of too few."""
    n = len(values)
    if n < LEAST:
        return None
    mean = sum(values) / n
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)


def _unit(value: float, unit: str) -> str:
    """Three digits, with m or µ where that is shorter."""
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ")):
        if abs(value) >= factor or prefix == "µ":
            return f"{value / factor:.3g} {prefix}{unit}"
    raise AssertionError
