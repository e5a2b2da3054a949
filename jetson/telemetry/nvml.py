"""NVML: discrete GPUs, through nvidia-ml-py (the module ``pynvml``).

Energy is ``nvmlDeviceGetTotalEnergyConsumption``, millijoules since the driver was loaded, from Volta on; a new value
every 20 to 100 ms. Loads are shares of time over a period of the driver's, 1/6 s to 1 s: of the memory the time in
which it was read or written, not its bandwidth. Jetson boards before Thor have no NVML.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finequery.jetson import driver
from finequery.jetson.telemetry.clocks import Clock
from finequery.jetson.telemetry.reading import Reading, Unavailable, share

#: Clocks and sensors by number in nvml.h.
_SM, _MEMORY, _TEMPERATURE = 1, 2, 0
#: CUdevice_attribute: domain, bus and slot on the PCI bus; shares the CPU's memory.
_PLACE, _INTEGRATED = (50, 33, 34), 18
#: nvmlClocksEventReasons: what slows a GPU down.
REASONS = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "heat (driver)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}


class Nvml:
    """The GPU that queries run on; where there are several, CUDA's first by its place on the bus."""

    name = "NVML"
    resolution = 0.1
    whole = False

    def __init__(self, module: Any):
        self._module = module
        try:
            module.nvmlInit()
        except Exception as error:
            raise Unavailable(f"NVML does not start: {error}") from error
        try:
            self._device = self._find()
            self.title = self._text(self._ask("nvmlDeviceGetName"))
        except Exception as error:
            self.close()
            raise Unavailable(f"NVML finds no GPU: {error}") from error
        self.covers = self.title or "GPU"
        reading = self.read()
        self.gives = frozenset(
            (["power"] if reading.watts is not None or reading.joules is not None else [])
            + [n for n in ("gpu_load", "memory_load", "gpu_mhz", "memory_mhz", "mode") if getattr(reading, n)
               not in (None, "")]
            + (["temperatures"] if reading.temperatures else [])
            + (["throttled"] if reading.throttled is not None else [])
        )  # fmt: skip

    def _find(self) -> Any:
        found, _ = driver.load()
        if found is not None:
            domain, bus, slot = map(found.attribute, _PLACE)
            with contextlib.suppress(self._module.NVMLError):
                return self._module.nvmlDeviceGetHandleByPciBusId(f"{domain:08x}:{bus:02x}:{slot:02x}.0")
        return self._module.nvmlDeviceGetHandleByIndex(0)

    def _ask(self, name: str, *arguments: Any) -> Any:
        """What a function of a device gives; None where this GPU or driver does not know it."""
        function: Callable[..., Any] | None = getattr(self._module, name, None)
        if function is None:
            return None
        try:
            return function(self._device, *arguments)
        except self._module.NVMLError:
            return None

    @staticmethod
    def _text(value: Any) -> str:
        return value.decode() if isinstance(value, bytes) else str(value or "")

    def read(self) -> Reading:
        """Everything that this GPU tells."""
        milliwatts, millijoules = self._ask("nvmlDeviceGetPowerUsage"), self._ask("nvmlDeviceGetTotalEnergyConsumption")
        now, loads = time.monotonic(), self._ask("nvmlDeviceGetUtilizationRates")
        heat = self._ask("nvmlDeviceGetTemperature", _TEMPERATURE)
        watts = None if milliwatts is None else milliwatts / 1e3
        slowed = self.throttling()
        return Reading(
            now,
            watts,
            {} if watts is None else {self.covers: watts},
            None if millijoules is None else millijoules / 1e3,
            gpu_load=None if loads is None else share(loads.gpu / 100),
            memory_load=None if loads is None else share(loads.memory / 100),
            gpu_mhz=self._clock("nvmlDeviceGetClockInfo", _SM),
            memory_mhz=self._clock("nvmlDeviceGetClockInfo", _MEMORY),
            temperatures={} if heat is None else {"gpu": float(heat)},
            mode=self._mode(),
            throttled=None if slowed is None else bool(slowed),
        )

    def _clock(self, function: str, which: int) -> float | None:
        value = self._ask(function, which)
        return None if value is None else float(value)

    def gpu_clock(self) -> Clock:
        """Of the multiprocessors. A GPU at rest clocks down and goes up with the first kernel, so ``most`` is its
        highest clock."""
        highest = self._clock("nvmlDeviceGetMaxClockInfo", _SM)
        return Clock(self._clock("nvmlDeviceGetClockInfo", _SM), None, highest, highest)

    def _mode(self) -> str:
        """A power limit below the card's default is its power mode."""
        limit, usual = (
            self._ask(name)
            for name in ("nvmlDeviceGetPowerManagementLimit", "nvmlDeviceGetPowerManagementDefaultLimit")
        )
        return f"{limit / 1e3:.0f} of {usual / 1e3:.0f} W" if limit and usual and limit < usual else ""

    def throttling(self) -> list[str] | None:
        """What slows the GPU down now, in words; None where the driver does not say."""
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")  # before driver 535
        return None if bits is None else [f"GPU: {text}" for bit, text in REASONS.items() if bits & bit]

    def others(self, since: int) -> tuple[float, int] | None:
        """The share of the GPU that other processes kept busy, and when in the driver's microseconds that was;
        ``since``: such a moment. None where the driver does not tell processes apart, and where it does not know this
        one: before its first kernel, and in a container, whose numbers of processes are not the driver's."""
        known = self._ask("nvmlDeviceGetComputeRunningProcesses") or []
        if os.getpid() not in {one.pid for one in known}:
            return None
        rows = self._ask("nvmlDeviceGetProcessUtilization", since)
        if rows is None:
            return None
        last: dict[int, tuple[int, int]] = {}  # by process: its newest sample
        for row in rows:
            last[row.pid] = max(last.get(row.pid, (0, 0)), (row.timeStamp, row.smUtil))
        newest = max((stamp for stamp, _ in last.values()), default=since)
        return share(sum(used for pid, (_, used) in last.items() if pid != os.getpid()) / 100), newest

    def close(self) -> None:
        """End NVML in this process."""
        with contextlib.suppress(Exception):
            self._module.nvmlShutdown()


def open_source(root: Path) -> Nvml:
    """Raises Unavailable."""
    if root != Path("/"):
        raise Unavailable("NVML: it is this machine's, not that of another root")
    found, _ = driver.load()
    if found is None or found.attribute(_INTEGRATED):
        raise Unavailable("NVML: there is no discrete GPU")
    try:
        module = importlib.import_module("pynvml")
    except ImportError:
        raise Unavailable("NVML: nvidia-ml-py is not installed", "pip install nvidia-ml-py") from None
    return Nvml(module)
