"""RAPL: the energy counters of x86 processors, by the kernel's powercap files.

``energy_uj`` counts microjoules and wraps at ``max_energy_range_uj`` (kernel: Documentation/power/powercap). Packages
and their DRAM add up; "core" and "uncore" stand within a package, and "psys" around all. Root alone may read the
counters since CVE-2020-8694, and virtual machines have none.
"""

from __future__ import annotations

import time
from pathlib import Path

from finequery.jetson.telemetry.files import Files
from finequery.jetson.telemetry.reading import Reading, Unavailable

_HINT = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj lets everybody read them until the next start."
#: Seconds between two readings below which their difference is the counter's steps (about 1 ms) and not power.
_LEAST = 0.01


class _Zone:
    """A counter that does not wrap any more."""

    def __init__(self, files: Files, folder: str, microjoules: float):
        self._files, self._path = files, f"{folder}/energy_uj"
        self._range = files.number(f"{folder}/max_energy_range_uj") or float(1 << 32)
        self._last, self.joules = microjoules, 0.0

    def read(self) -> float:
        """Joules since it was opened."""
        now = self._files.number(self._path)
        if now is not None:
            gone = now - self._last
            self.joules += (gone + self._range if gone < 0 else gone) / 1e6
            self._last = now
        return self.joules


class Rapl:
    """Energy of the processor packages and their memory."""

    name = "RAPL"
    resolution = 0.001
    gives = frozenset(["power"])
    whole = False

    def __init__(self, root: Path):
        files = Files(root)
        self._zones: dict[str, _Zone] = {}
        for folder in files.glob("sys/class/powercap/intel-rapl:*"):
            name, value = files.text(f"{folder}/name"), files.number(f"{folder}/energy_uj")
            if value is not None and name.startswith(("package", "dram")):
                label = name if name not in self._zones else f"{name} {folder.rpartition('/')[2].partition(':')[2]}"
                self._zones[label] = _Zone(files, folder, value)
        if not self._zones:
            if files.refused:
                raise Unavailable("RAPL: its counters are for root alone", _HINT)
            raise Unavailable("there is no RAPL")
        self.covers = " + ".join(f"CPU {name}" for name in self._zones)
        self._time, self._joules = time.monotonic(), dict.fromkeys(self._zones, 0.0)
        self._rails: dict[str, float] = {}

    def read(self) -> Reading:
        """Joules since it was opened, and watts since the last reading. Read it at least once before a counter comes
        round twice (some minutes at full power)."""
        joules, now = {name: zone.read() for name, zone in self._zones.items()}, time.monotonic()
        gone = now - self._time
        if gone >= _LEAST:
            self._rails = {f"CPU {name}": (joules[name] - self._joules[name]) / gone for name in joules}
            self._time, self._joules = now, joules
        watts = sum(self._rails.values()) if self._rails else None
        return Reading(now, watts, dict(self._rails), sum(joules.values()))

    def close(self) -> None:
        """Nothing is held open."""


def open_source(root: Path) -> Rapl:
    """Raises Unavailable."""
    return Rapl(root)
