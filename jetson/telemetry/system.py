"""What every Linux machine tells: load and clock of the cores, temperatures, and what slows them down."""

from __future__ import annotations

import time
from pathlib import Path

from finequery.jetson.telemetry import clocks, thermal
from finequery.jetson.telemetry.files import Files
from finequery.jetson.telemetry.reading import Reading, Unavailable, share

_IDLE, _WAIT, _COUNTED = 3, 4, 8  # fields of /proc/stat: idle, iowait; those behind "steal" are within others


class System:
    """Files of /proc and /sys. The cores' time is counted in ticks of 10 ms: a load means something over ten."""

    name = "Linux"
    resolution = 0.1
    covers = ""
    whole = False

    def __init__(self, root: Path):
        self._files = Files(root)
        self._before = self._times()
        self._load: float | None = None
        reading = self.read()
        found = {name for name in ("cpu_mhz", "temperatures", "throttled") if getattr(reading, name) not in (None, {})}
        if self._before is not None:
            found.add("cpu_load")
        if not found:
            raise Unavailable("there is no Linux system below this folder")
        self.gives = frozenset(found)

    def _times(self) -> tuple[float, float] | None:
        """Ticks of all cores, busy and in all."""
        line = self._files.text("proc/stat").partition("\n")[0].split()
        if len(line) <= _WAIT + 1 or line[0] != "cpu":
            return None
        ticks = [float(text) for text in line[1 : _COUNTED + 1]]
        return sum(ticks) - ticks[_IDLE] - ticks[_WAIT], sum(ticks)

    def read(self) -> Reading:
        """``cpu_load`` is that since the last reading, or of the one before if no tick has passed since."""
        times = self._times()
        if times is not None and self._before is not None and times[1] > self._before[1]:
            self._load = share((times[0] - self._before[0]) / (times[1] - self._before[1]))
            self._before = times
        slowed = self.throttling()
        return Reading(
            time.monotonic(),
            cpu_load=self._load,
            cpu_mhz=clocks.cpu(self._files).now,
            temperatures=thermal.temperatures(self._files),
            throttled=None if slowed is None else bool(slowed),
        )

    def throttling(self) -> list[str] | None:
        """What slows the machine down now, in words; None where the kernel does not say."""
        return thermal.throttling(self._files)

    def close(self) -> None:
        """Nothing is held open."""


def open_source(root: Path) -> System:
    """Raises Unavailable."""
    return System(root)
