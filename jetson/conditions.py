"""Under which conditions the machine works now: what belongs into the record of every benchmark.

``conditions()`` reads them, ``warnings()`` says which of them make a benchmark unfair. Clocks are in MHz, by engine:
``clocks`` is what they may go up to, ``clocks_now`` where they are, ``clocks_highest`` what the chip can do; ``steady``
names those that do not ramp up when work comes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finequery.jetson.telemetry import LOADS, clocks, open_telemetry, thermal
from finequery.jetson.telemetry.files import Files
from finequery.jetson.telemetry.tegra import power_mode

#: How far a clock may be below its highest, the load average above nothing (a share of the cores), and the GPU's load
#: of others, before a benchmark is unfair.
CLOCK, CORES, GPU = 0.97, 0.25, 0.05


def conditions(root: str | Path = "/") -> dict[str, Any]:
    """Governor, power mode, clocks, temperatures, throttling and load now, as JSON takes it, with ``warnings``."""
    files = Files(root)
    with open_telemetry(root, LOADS) as telemetry:
        reading, gpu, slowed = telemetry.read(), telemetry.gpu_clock(), telemetry.throttling()
    mode, modes = power_mode(files)
    cpu = clocks.cpu(files)
    found: dict[str, Any] = {
        "governor": cpu.governor,
        "gpu_governor": gpu.governor,
        "mode": mode or reading.mode,
        "modes": {name: number for number, name in modes.items()},
        "cores": _cores(files.text("sys/devices/system/cpu/present")) or os.cpu_count(),
        "cores_online": _cores(files.text("sys/devices/system/cpu/online")) or os.cpu_count(),
        "clocks": {"cpu": cpu.most, "gpu": gpu.most},
        "clocks_now": {"cpu": cpu.now, "gpu": gpu.now, "memory": reading.memory_mhz},
        "clocks_highest": {"cpu": cpu.highest, "gpu": gpu.highest},
        "steady": [name for name, clock in (("cpu", cpu), ("gpu", gpu)) if clock.steady],
        "gpu_load": reading.gpu_load,
        "temperatures": {name: round(value, 1) for name, value in reading.temperatures.items()},
        "throttled": reading.throttled,
        "throttling": slowed or [],
        "over_current": thermal.over_current(files),
        "load_average": _load_average(files),
    }
    return found | {"warnings": warnings(found)}


def warnings(found: Mapping[str, Any] | None = None) -> list[str]:
    """What makes a benchmark under these conditions unfair, with what would help; those of now without any."""
    if found is None:
        return list(conditions()["warnings"])
    made = [f"the machine is slowed down: {text}" for text in found["throttling"]]
    best = best_mode(found["modes"])
    if best and found["mode"] and found["mode"] != best:
        made.append(f"the power mode is {found['mode']}, not {best} (sudo nvpmodel -m {found['modes'][best]})")
    elif not found["modes"] and found["mode"]:  # of a graphics card
        made.append(f"the GPU's power limit is lowered: {found['mode']}")
    if found["cores_online"] < found["cores"]:
        made.append(f"{found['cores_online']} of {found['cores']} cores are switched on")
    for name, governor in (("cpu", found["governor"]), ("gpu", found["gpu_governor"])):
        most, highest = found["clocks"][name], found["clocks_highest"][name]
        if most and highest and most < CLOCK * highest:
            made.append(f"the {name.upper()} may go up to {most:.0f} of {highest:.0f} MHz only")
        if governor and name not in found["steady"]:
            made.append(
                f"the {name.upper()}'s governor is {governor}: its clock ramps up only while the benchmark runs "
                + ("(sudo jetson_clocks)" if found["modes"] else "(sudo cpupower frequency-set -g performance)")
            )
    if found["over_current"]:
        made.append(f"over-current protection has slowed the chip down {found['over_current']} times since the start")
    busy = found["load_average"][0] if found["load_average"] else 0.0
    if busy > CORES * found["cores_online"]:
        made.append(f"{busy:.1f} of {found['cores_online']} cores were busy over the last minute (load average)")
    if (found["gpu_load"] or 0.0) > GPU:
        made.append(f"the GPU is {found['gpu_load']:.0%} busy")
    return made


def best_mode(modes: Iterable[str]) -> str:
    """The fastest power mode by its name: without a limit, else with the most watts; "" where there is none."""

    def rank(name: str) -> tuple[bool, bool, int]:
        watts = re.search(r"(\d+)W", name)
        return "MAXN" in name, "SUPER" in name, int(watts[1]) if watts else 0

    return max(modes, key=rank, default="")


def _cores(text: str) -> int:
    """How many are in a list like ``0-3,8``."""
    pairs = (piece.split("-") for piece in text.split(",") if piece.strip())
    return sum(int(pair[-1]) - int(pair[0]) + 1 for pair in pairs)


def _load_average(files: Files) -> list[float]:
    return [float(text) for text in files.text("proc/loadavg").split()[:3]]
