"""INA3221: the power monitors on Jetson modules, by the kernel's hwmon files.

``in{n}_label`` names the rail of channel n, ``in{n}_input`` is its voltage in mV and ``curr{n}_input`` its current in
mA (kernel: Documentation/hwmon/ina3221.rst). The chip averages; ``update_interval`` says over how many ms. Channels 4
to 7 are shunt voltages and their sum: no rails. JetPack 5 lets root alone read them.
"""

from __future__ import annotations

import time
from pathlib import Path

from finequery.jetson.telemetry.files import Files
from finequery.jetson.telemetry.rails import total
from finequery.jetson.telemetry.reading import Reading, Unavailable

#: Seconds that the chip averages over where the kernel does not say: JetPack sets 512 samples, which are 430 ms.
JETPACK = 0.43
_HINT = (
    "sudo chmod a+r /sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/*_input lets everybody read them until the next start; "
    "the service of jetson-stats reads them for you."
)


class Ina3221:
    """Power by rail. ``whole``: the rails add up to the module."""

    name = "INA3221"
    gives = frozenset(["power"])
    whole = True

    def __init__(self, root: Path):
        self._files = Files(root)
        self._channels: dict[str, tuple[str, str]] = {}  # by rail: files of mV and mA
        intervals = []
        for folder in self._files.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*", "sys/class/hwmon/hwmon*"):
            if "ina3221" not in (self._files.text(f"{folder}/name") or folder):
                continue
            found = {
                label: (f"{folder}/in{n}_input", f"{folder}/curr{n}_input")
                for n in (1, 2, 3)
                if (label := self._files.text(f"{folder}/in{n}_label")) and label != "NC"
            }
            self._channels |= found
            if found and (interval := self._files.number(f"{folder}/update_interval")):
                intervals.append(interval / 1e3)
        self.resolution = max(intervals, default=JETPACK)
        rails = self._rails()
        if not rails:
            if self._files.refused:
                raise Unavailable("INA3221: its files are for root alone", _HINT)
            raise Unavailable("there is no INA3221")
        self.covers = total(rails)[1]

    def _rails(self) -> dict[str, float]:
        found = {}
        for rail, paths in self._channels.items():
            millivolts, milliamperes = map(self._files.number, paths)
            if millivolts is not None and milliamperes is not None:
                found[rail] = max(millivolts * milliamperes / 1e6, 0.0)
        return found

    def read(self) -> Reading:
        """Watts by rail, averaged over ``resolution``."""
        rails = self._rails()
        return Reading(time.monotonic(), total(rails)[0], rails)

    def close(self) -> None:
        """Nothing is held open."""


def open_source(root: Path) -> Ina3221:
    """Raises Unavailable."""
    return Ina3221(root)
