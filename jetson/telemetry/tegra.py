"""What a Jetson's kernel tells without root: load and clock of the GPU, and the power mode. The memory's clock too,
for those who may read it."""

from __future__ import annotations

import re
import time
from pathlib import Path

from finequery.jetson.telemetry import clocks
from finequery.jetson.telemetry.files import Files
from finequery.jetson.telemetry.reading import Reading, Unavailable, share


class Tegra:
    """Files of /sys. The driver renews the load when it considers the clock, some ten times a second."""

    name = "sysfs"
    resolution = 0.1
    covers = ""
    whole = False

    def __init__(self, root: Path):
        self._files = Files(root)
        self._folder = clocks.gpu_folder(self._files)
        self._load = clocks.gpu_load(self._files, self._folder)
        reading = self.read()
        self.gives = frozenset(
            name for name in ("gpu_load", "gpu_mhz", "memory_mhz", "mode") if getattr(reading, name) not in (None, "")
        )
        if not self.gives:
            raise Unavailable("there is no integrated GPU in sysfs")

    def read(self) -> Reading:
        """Load, clocks and mode."""
        thousandths = None if self._load is None else self._files.number(self._load)
        return Reading(
            time.monotonic(),
            gpu_load=None if thousandths is None else share(thousandths / 1e3),
            gpu_mhz=self.gpu_clock().now,
            memory_mhz=clocks.memory(self._files).now,
            mode=power_mode(self._files)[0],
        )

    def gpu_clock(self) -> clocks.Clock:
        """Of the GPU."""
        return clocks.gpu(self._files, self._folder)

    def close(self) -> None:
        """Nothing is held open."""


def power_mode(files: Files) -> tuple[str, dict[int, str]]:
    """The power mode's name, "" if there is none, and all modes by number: nvpmodel's own files, which everybody may
    read. The status holds ``pmode:0002``, the configuration ``< POWER_MODEL ID=2 NAME=MODE_15W >``."""
    text = files.text("etc/nvpmodel.conf")
    known = {int(n): name for n, name in re.findall(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", text, re.M)}
    status = re.search(r"pmode:(\d+)", files.text("var/lib/nvpmodel/status"))
    default = re.search(r"^\s*<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>", text, re.MULTILINE)
    found = status or default
    return (known.get(int(found[1]), f"mode {int(found[1])}") if found else ""), known


def open_source(root: Path) -> Tegra:
    """Raises Unavailable."""
    return Tegra(root)
