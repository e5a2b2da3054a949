"""The machine that is calibrated: its name, and the clock of its cores."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from functools import lru_cache
from pathlib import Path

from finequery.operators import native

CPUINFO = Path("/proc/cpuinfo")
#: The highest clock of the first core, in kHz.
FREQUENCY = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")


@lru_cache(maxsize=1)
def processor() -> str:
    """The CPU's name as the system gives it."""
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", _read(CPUINFO), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def clock_ghz() -> float:
    """Clock of a core in GHz: the highest where the system tells it, else what it runs at; 0 if unknown."""
    text = _read(FREQUENCY).strip()
    if text.isdigit():
        return int(text) / 1e6
    found = re.search(r"^cpu MHz\s*:\s*([\d.]+)$", _read(CPUINFO), re.MULTILINE)
    return float(found[1]) / 1e3 if found else 0.0


def identity(*versions: str) -> str:
    """A short name of this machine with the kernels that are measured on it, and further versions."""
    digest = hashlib.sha256()
    for part in (processor(), platform.machine(), str(os.cpu_count()), *versions):
        digest.update(f"{part}\n".encode())
    for path in native.SOURCES:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
