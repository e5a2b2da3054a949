"""jtop: the service of jetson-stats, which reads every sensor of a Jetson as root.

It is used where it is installed and runs, never required (AGPL-3.0). It renews once a second, too coarse for a query,
so ``open_power`` asks for INA3221's own files first.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finequery.jetson.telemetry.rails import total
from finequery.jetson.telemetry.reading import Reading, Unavailable, fresh, share

#: What only a Jetson has.
_JETSON = "etc/nv_tegra_release"
#: Seconds to wait for the first values.
PATIENCE = 3.0


class Jtop:
    """A client of the service."""

    name = "jtop"
    resolution = 1.0
    whole = True

    def __init__(self, module: Any):
        self._last: Reading | None = None
        self._news = threading.Event()
        try:
            self._client = module.jtop(interval=self.resolution)
            self._client.attach(self._note)
            self._client.start()
        except Exception as error:
            raise Unavailable(f"jtop: {str(error).splitlines()[0]}", "sudo systemctl start jtop") from error
        self._news.wait(PATIENCE)
        first = self._last
        if first is None:
            self.close()
            raise Unavailable(f"jtop: no values within {PATIENCE:.0f} s", "sudo systemctl restart jtop")
        self.covers = self._covers
        self.gives = frozenset(
            (["power"] if first.watts is not None else [])
            + [name for name in ("cpu_load", "gpu_load", "memory_load", "cpu_mhz", "gpu_mhz", "memory_mhz", "mode",
                                 "temperatures") if getattr(first, name) not in (None, "", {})]
        )  # fmt: skip

    def _note(self, client: Any) -> None:
        """Called by the client's thread with new values. Clocks are in kHz, rails in mW, loads in percent."""
        now, power = time.monotonic(), client.power or {}
        rails = {name: rail["power"] / 1e3 for name, rail in power.get("rail", {}).items() if rail.get("online", True)}
        whole = power.get("tot", {})
        if "name" in whole:  # the input's rail, which is not among the others
            rails[whole["name"]] = whole["power"] / 1e3
        watts, self._covers = total(rails)
        gpu: Mapping[str, Any] = next(iter(client.gpu.values()), {}) if client.gpu else {}
        memory, cpu = (client.memory or {}).get("EMC", {}), client.cpu or {}
        idle, load = cpu.get("total", {}).get("idle"), gpu.get("status", {}).get("load")
        cores = [core["freq"]["cur"] for core in cpu.get("cpu", []) if core.get("online") and core.get("freq")]
        mode = client.nvpmodel
        self._last = Reading(
            now,
            watts,
            rails,
            cpu_load=None if idle is None else share(1 - idle / 100),
            gpu_load=None if load is None else share(load / 100),
            memory_load=share(memory["val"] / 100) if "val" in memory else None,
            cpu_mhz=sum(cores) / len(cores) / 1e3 if cores else None,
            gpu_mhz=_mhz(gpu.get("freq", {})),
            memory_mhz=_mhz(memory),
            temperatures={
                name.lower(): float(place["temp"])
                for name, place in (client.temperature or {}).items()
                if place.get("online", True)
            },
            mode="" if mode is None else str(getattr(mode, "name", mode)),
        )
        self._news.set()

    def read(self) -> Reading:
        """The newest values. They keep their time when there are none newer, and are empty once the service is gone."""
        assert self._last is not None
        return fresh(self._last, self.resolution)

    def close(self) -> None:
        """Leave the service."""
        with contextlib.suppress(Exception):
            self._client.close()


def _mhz(clock: Mapping[str, Any]) -> float | None:
    return clock["cur"] / 1e3 if clock.get("cur") else None


def open_source(root: Path) -> Jtop:
    """Raises Unavailable."""
    if root != Path("/"):
        raise Unavailable("jtop: it is this machine's, not that of another root")
    try:
        module = importlib.import_module("jtop")
    except ImportError:
        hint = "pip install --only-binary jetson-stats jetson-stats" if (root / _JETSON).exists() else ""
        raise Unavailable("jtop: jetson-stats is not installed", hint) from None
    return Jtop(module)
