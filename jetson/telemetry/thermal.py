"""Temperatures, and what slows the machine down because of them: the kernel's thermal zones and cooling devices."""

from __future__ import annotations

import re

from finequery.jetson.telemetry.files import Files

#: Zones that are no measurement (PMIC-Die always says 100 °C), and what a sensor says that is switched off.
_CONSTANT, _OFF = "pmic", -40.0
#: Cooling devices that work by slowing down. Fans do not, and neither does an offset of the trip points.
_SLOWING = re.compile(r"throttle|alert|balanced|cpufreq|devfreq|^processor$", re.IGNORECASE)


def temperatures(files: Files) -> dict[str, float]:
    """°C by zone: "CPU-therm" and "cpu-thermal" are both "cpu"."""
    found: dict[str, float] = {}
    for folder in files.glob("sys/class/thermal/thermal_zone*"):
        name, value = _name(files, folder), files.number(f"{folder}/temp")
        if value is not None and _CONSTANT not in name and value / 1e3 > _OFF:
            found[name] = max(value / 1e3, found.get(name, _OFF))
    return found


def _name(files: Files, folder: str) -> str:
    text = files.text(f"{folder}/type") or folder.rpartition("/")[2]
    return re.sub(r"[-_]?therm(al)?$", "", text, flags=re.IGNORECASE).lower() or text


def throttling(files: Files) -> list[str] | None:
    """What slows the machine down now, in words; None where the kernel has no zones or cooling devices."""
    found, seen = [], False
    for folder in files.glob("sys/class/thermal/cooling_device*"):
        kind, state = files.text(f"{folder}/type"), files.number(f"{folder}/cur_state")
        if state is None or not _SLOWING.search(kind):
            continue
        seen = True
        if state > 0:
            found.append(f"{kind} is at {state:.0f} of {files.number(f'{folder}/max_state') or state:.0f}")
    for folder in files.glob("sys/class/thermal/thermal_zone*"):
        value, limit = files.number(f"{folder}/temp"), _passive(files, folder)
        if value is None or limit is None or value / 1e3 <= _OFF:
            continue
        seen = True
        if value / 1e3 >= limit:
            found.append(f"{_name(files, folder)} is at {value / 1e3:.0f} °C and is slowed down from {limit:.0f} °C on")
    return found if seen else None


def _passive(files: Files, folder: str) -> float | None:
    """°C of the first trip point at which a zone is cooled by slowing down."""
    found = []
    for path in files.glob(f"{folder}/trip_point_*_type"):
        value = files.number(path.removesuffix("type") + "temp")
        if files.text(path) == "passive" and value is not None and value > 0:
            found.append(value / 1e3)
    return min(found, default=None)


def over_current(files: Files) -> int:
    """Times since the start that Orin's over-current protection slowed the chip down."""
    return int(sum(files.number(path) or 0 for path in files.glob("sys/class/hwmon/hwmon*/oc*_event_cnt")))
