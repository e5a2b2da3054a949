"""Clocks of the CPU's cores, the GPU and the memory, with what holds them down, from cpufreq, devfreq and debugfs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from finequery.jetson.telemetry.files import Files

#: Names of integrated GPUs under devfreq: by chip up to JetPack 5, "….gpu" from JetPack 6 on.
_GPU = re.compile(r"(gv11b|ga10b|gp10b|gm20b|\.gpu|^gpu)", re.IGNORECASE)
_DEVFREQ = tuple(
    f"{folder}/*" for folder in ("sys/class/devfreq", "sys/devices/*/devfreq", "sys/devices/platform/*/devfreq")
)
#: The memory's clock in Hz: JetPack 5 and 6; JetPack 4. Both are for root alone.
_EMC = ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "sys/kernel/debug/clk/emc/clk_rate")
#: Governors that stay at the clock they were given; every other one goes up under load.
_FIXED = ("userspace", "powersave")


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock in MHz. It goes from ``least`` to ``most`` now (by power mode, user or heat), and the chip can do
    ``highest``; None where the system does not say."""

    now: float | None = None
    least: float | None = None
    most: float | None = None
    highest: float | None = None
    governor: str = ""

    @property
    def steady(self) -> bool:
        """It does not ramp up when work comes: a fast governor, or nothing to choose (as jetson_clocks leaves it)."""
        if self.governor == "performance":
            return True
        return self.least is not None and self.most is not None and self.least >= 0.99 * self.most

    def attainable(self, throttled: bool = False) -> float | None:
        """What work will run at: ``most``, to which governors go under load, unless the clock is held where it is."""
        if self.now is not None and (throttled or self.governor in _FIXED or self.most is None):
            return self.now
        return self.most


def cpu(files: Files) -> Clock:
    """The mean over the online cores' policies, each as often as it has cores; kHz in cpufreq."""
    rows: list[list[float | None]] = []
    governors = []
    for folder in _policies(files):
        cores = len(files.text(f"{folder}/affected_cpus").split()) or 1
        names = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq", "cpuinfo_max_freq")
        rows += [[files.number(f"{folder}/{name}") for name in names]] * cores
        governors.append(files.text(f"{folder}/scaling_governor"))
    if not rows:
        found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", files.text("proc/cpuinfo"), re.MULTILINE)
        return Clock(_mean([float(text) for text in found]))
    now, least, most, highest = (_mean([value / 1e3 for value in column if value is not None]) for column in zip(*rows))
    return Clock(now, least, most, highest, ", ".join(dict.fromkeys(filter(None, governors))))


def _policies(files: Files) -> list[str]:
    found = list(files.glob("sys/devices/system/cpu/cpufreq/policy*"))
    return found or list(files.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"))


def gpu_folder(files: Files) -> str | None:
    """The devfreq folder of an integrated GPU."""
    return next((path for path in files.glob(*_DEVFREQ) if _GPU.search(path.rpartition("/")[2])), None)


def gpu(files: Files, folder: str | None) -> Clock:
    """Of an integrated GPU; Hz in devfreq."""
    if folder is None:
        return Clock()
    now, least, most = (_mhz(files.number(f"{folder}/{name}_freq")) for name in ("cur", "min", "max"))
    steps = [float(text) / 1e6 for text in files.text(f"{folder}/available_frequencies").split() if text.isdigit()]
    return Clock(now, least, most, max(steps, default=None), files.text(f"{folder}/governor"))


def gpu_load(files: Files, folder: str | None) -> str | None:
    """The file of an integrated GPU's load, in thousandths of its time."""
    places = [f"{folder}/device/load"] if folder else []
    places += ["sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load"]
    return next((path for path in places if files.number(path) is not None), None)


def memory(files: Files) -> Clock:
    """The memory's clock, where this user may read it."""
    return Clock(next((_mhz(value) for path in _EMC if (value := files.number(path)) is not None), None))


def _mhz(hertz: float | None) -> float | None:
    return None if hertz is None else hertz / 1e6


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
