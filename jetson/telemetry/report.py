"""What ``finequery devices`` says of the sensors: which there are, what they say, what makes a benchmark unfair."""

from __future__ import annotations

import time
from pathlib import Path

from finequery.jetson.conditions import conditions
from finequery.jetson.telemetry.composite import open_telemetry
from finequery.jetson.telemetry.reading import Reading

#: Seconds that the load is watched for.
WATCHED = 0.2


def report(root: str | Path = "/") -> str:
    """For people."""
    with open_telemetry(root) as telemetry:
        time.sleep(WATCHED)
        sensors, reading = telemetry.describe().split("\n"), telemetry.read()
    found = conditions(root)
    now = [part for part in (_power(reading), _mode(reading)) if part]
    loads = {"cpu": reading.cpu_load, "gpu": reading.gpu_load, "memory": reading.memory_load}
    texts = (
        _engine(name if name == "memory" else name.upper(), load, found["clocks_now"][name], found["clocks"].get(name))
        for name, load in loads.items()
    )
    now += filter(None, texts)
    if reading.temperatures:
        hottest = sorted(reading.temperatures.items(), key=lambda item: -item[1])
        now.append(", ".join(f"{name} {value:.0f} °C" for name, value in hottest))
    return "\n".join([*_titled("Sensors", sensors), *_titled("Now", now), *_titled("Warnings", found["warnings"])])


def _titled(title: str, lines: list[str]) -> list[str]:
    return [f"{title if not n else '':8} {line}" for n, line in enumerate(lines)]


def _power(reading: Reading) -> str:
    if reading.watts is None:
        return ""
    rails = ", ".join(f"{name} {watts:.2f}" for name, watts in reading.rails.items())
    return f"{reading.watts:.2f} W" + (f": {rails}" if len(reading.rails) > 1 else "")


def _mode(reading: Reading) -> str:
    return f"power mode {reading.mode}" if reading.mode else ""


def _engine(name: str, load: float | None, now: float | None, most: float | None) -> str:
    """A load and a clock, as far as they are known."""
    parts = [f"{load:.0%} busy"] if load is not None else []
    if now is not None:
        parts.append(f"at {now:.0f}" + (f" of {most:.0f} MHz" if most else " MHz"))
    return f"{name} {' '.join(parts)}" if parts else ""
