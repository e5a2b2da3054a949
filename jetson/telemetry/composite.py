"""The sensors of a machine as one: for each value the first source in an order that has it.

Power is the whole board's from one source, or, where none covers the board, the sum of those that cover parts of it: a
graphics card by NVML and the processor by RAPL.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from finequery.jetson.telemetry.clocks import Clock
from finequery.jetson.telemetry.reading import GIVEN, Clocked, Reading, Slowed, Source, Unavailable

#: By name: the module, and what it may give.
SOURCES: dict[str, frozenset[str]] = {
    "jtop": frozenset(GIVEN) - {"throttled"},
    "ina3221": frozenset(["power"]),
    "tegrastats": frozenset(GIVEN) - {"mode", "throttled"},
    "nvml": frozenset(GIVEN) - {"cpu_load", "cpu_mhz"},
    "rapl": frozenset(["power"]),
    "tegra": frozenset(["gpu_load", "gpu_mhz", "memory_mhz", "mode"]),
    "system": frozenset(["cpu_load", "cpu_mhz", "temperatures", "throttled"]),
}
#: The most complete first. tegrastats comes last: it is a program that has to run, and says what others say too.
ORDER = ("jtop", "ina3221", "nvml", "rapl", "tegra", "system", "tegrastats")
#: For power alone: the finest first.
FINEST = ("ina3221", "nvml", "rapl", "tegrastats", "jtop")
#: For loads, clocks, heat and the mode alone: what is read in no time.
LOADS = ("tegra", "nvml", "system")

_SCALARS = ("cpu_load", "gpu_load", "memory_load", "cpu_mhz", "gpu_mhz", "memory_mhz")


class Telemetry:
    """What ``open_telemetry`` found. ``missing`` are the sources that are not to be had, with the reasons."""

    def __init__(self, sources: Sequence[Source], missing: Sequence[Unavailable] = ()):
        self.sources, self.missing = list(sources), list(missing)
        self._power = _powered(self.sources)

    @property
    def name(self) -> str:
        """Where power comes from; "none" without a sensor of power."""
        return " + ".join(source.name for source in self._power) or "none"

    @property
    def covers(self) -> str:
        """What ``watts`` is the power of."""
        text = " + ".join(source.covers for source in self._power)
        return f"{text}, without the processor" if self.name == "NVML" else text

    @property
    def resolution(self) -> float:
        """Seconds between two new values: of power, or of everything where there is no power."""
        return max((source.resolution for source in self._power or self.sources), default=1.0)

    def read(self) -> Reading:
        """All values now; ``time`` is that of the power."""
        readings = [(source, source.read()) for source in self.sources]
        power = _powers([reading for source, reading in readings if source in self._power])
        scalars: dict[str, Any] = dict.fromkeys(_SCALARS)
        temperatures: dict[str, float] = {}
        mode, throttled = "", None
        for source, reading in readings:
            for name in _SCALARS:
                if scalars[name] is None and name in source.gives:
                    scalars[name] = getattr(reading, name)
            temperatures = {**reading.temperatures, **temperatures}
            mode = mode or reading.mode
            if reading.throttled is not None:
                throttled = bool(throttled) or reading.throttled
        return replace(power, temperatures=temperatures, mode=mode, throttled=throttled, **scalars)

    def power(self) -> Reading:
        """Power alone, without asking any other source."""
        return _powers([source.read() for source in self._power])

    def gpu_clock(self) -> Clock:
        """The GPU's clock and its bounds."""
        return next((source.gpu_clock() for source in self.sources if isinstance(source, Clocked)), Clock())

    def throttling(self) -> list[str] | None:
        """What slows the machine down now, in words; None where no source can say."""
        found = [source.throttling() for source in self.sources if isinstance(source, Slowed)]
        known = [texts for texts in found if texts is not None]
        return [text for texts in known for text in texts] if known else None

    def describe(self) -> str:
        """Which sources were chosen and why, and how to get those that are missing."""
        lines = []
        for source in self.sources:
            given = [_WORDS[name] for name in GIVEN if name in source.gives and self._of(name, source)]
            if given:
                lines.append(f"{source.name}: {', '.join(given)}; every {_duration(source.resolution)}")
        if self._power:
            lines.append(f"Power is that of {self.covers}.")
        else:
            lines.append("No sensor of power can be read here.")
        lines += [str(one) for one in self.missing if one.hint]
        if not self._power:
            reasons = [one.reason for one in self.missing if not one.hint]
            lines += [f"Looked for: {'; '.join(reasons)}."] if reasons else []
        return "\n".join(lines)

    def _of(self, name: str, source: Source) -> bool:
        """Whether a value comes from a source."""
        if name == "power":
            return source in self._power
        return name in ("temperatures", "throttled") or source is next(s for s in self.sources if name in s.gives)

    def close(self) -> None:
        """Close all sources."""
        for source in self.sources:
            source.close()

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_WORDS = {name: name.replace("_mhz", " clock").replace("_", " ") for name in GIVEN} | {
    "mode": "power mode",
    "throttled": "throttling",
    "cpu_load": "CPU load",
    "gpu_load": "GPU load",
    "cpu_mhz": "CPU clock",
    "gpu_mhz": "GPU clock",
}


def _powered(sources: Sequence[Source]) -> list[Source]:
    """Those that power comes from: the first that covers the whole, else all parts."""
    found = [source for source in sources if "power" in source.gives]
    return next(([source] for source in found if source.whole), found)


def _powers(readings: Sequence[Reading]) -> Reading:
    """Parts of the power added up."""
    return Reading(
        max((reading.time for reading in readings), default=time.monotonic()),
        _sum([reading.watts for reading in readings]),
        {rail: watts for reading in readings for rail, watts in reading.rails.items()},
        _sum([reading.joules for reading in readings]),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1e3:g} ms"


def open_power(root: str | Path = "/") -> Telemetry:
    """The finest sensors of power, and no others."""
    return open_telemetry(root, FINEST, ["power"])


def open_telemetry(root: str | Path = "/", order: Sequence[str] = ORDER, wanted: Iterable[str] = GIVEN) -> Telemetry:
    """The sensors below ``root``, from the sources in ``order``. A source is opened only if it may give something that
    is ``wanted`` and that those before it do not give. Raises nothing where there is no sensor: then nothing is in the
    readings."""
    asked = frozenset(wanted)
    sources: list[Source] = []
    missing: list[Unavailable] = []
    for name in order:
        given = {field for source in sources for field in source.gives}
        if "power" in given and not any(source.whole for source in _powered(sources)):
            given -= {"power"}  # a part
        gained = (SOURCES[name] & asked) - given
        if not gained or (name == "tegrastats" and not gained & {"power", "gpu_load"}):
            continue
        module = importlib.import_module(f"finequery.jetson.telemetry.{name}")
        try:
            sources.append(module.open_source(Path(root)))
        except Unavailable as error:
            missing.append(error)
    return Telemetry(sources, missing)
