"""tegrastats: a program of NVIDIA's that prints a line of all sensors every so often.

The lines differ by version. Until JetPack 4 rails are ``CPU 468/450`` (now/mean, mW) and clocks ``45%@921``; JetPack 5
writes ``VDD_CPU_CV 1196mW/897mW``, JetPack 6 and 7 ``[305]`` for a clock, a time before the line, and a third number,
the most, behind some. ``EMC_FREQ`` has a load for root alone.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from finequery.jetson.telemetry.rails import total
from finequery.jetson.telemetry.reading import Reading, Unavailable, fresh, share

#: Seconds between two lines. The rails are INA3221's, which averages over 0.43 s.
INTERVAL = 0.5
#: Seconds to wait for the first line.
PATIENCE = 3.0

_RAIL = re.compile(r"(?<!\S)([A-Za-z]\w*) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+mW)?(?!\S)")
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C")
_ENGINE = r"{} (\d+)%(?:@\[?(\d+))?"
_GPU, _MEMORY = re.compile(_ENGINE.format("GR3D_FREQ")), re.compile(_ENGINE.format("EMC_FREQ"))
_CORES, _CORE = re.compile(r"CPU \[([^\]]*)\]"), re.compile(r"(\d+)%@(\d+)")
_CONSTANT, _OFF = "pmic", -40.0


def parse(line: str, now: float) -> Reading:
    """A line that was printed at ``now``. What is not in it is None."""
    rails = {name: int(milliwatts) / 1e3 for name, milliwatts in _RAIL.findall(line)}
    found = _CORES.search(line)
    cores = [(int(load) / 100, float(mhz)) for load, mhz in _CORE.findall(found[1])] if found else []
    gpu, memory = _engine(_GPU, line), _engine(_MEMORY, line)
    return Reading(
        now,
        total(rails)[0],
        rails,
        cpu_load=share(sum(load for load, _ in cores) / len(cores)) if cores else None,
        cpu_mhz=sum(mhz for _, mhz in cores) / len(cores) if cores else None,
        gpu_load=gpu[0],
        gpu_mhz=gpu[1],
        memory_load=memory[0] if memory[1] is not None else None,  # "EMC_FREQ 0%" alone: this user is not told
        memory_mhz=memory[1],
        temperatures={
            name.lower(): float(text)
            for name, text in _TEMPERATURE.findall(line)
            if float(text) > _OFF and _CONSTANT not in name.lower()
        },
    )


def _engine(pattern: re.Pattern[str], line: str) -> tuple[float | None, float | None]:
    """Load and MHz."""
    found = pattern.search(line)
    if found is None:
        return None, None
    return share(int(found[1]) / 100), float(found[2]) if found[2] else None


class Tegrastats:
    """The program, running, and its last line."""

    name = "tegrastats"
    resolution = INTERVAL
    whole = True

    def __init__(self, program: str):
        self._process = subprocess.Popen(
            [program, "--interval", f"{INTERVAL * 1e3:.0f}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        self._last: Reading | None = None
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="finequery-tegrastats", daemon=True)
        self._thread.start()
        self._news.wait(PATIENCE)
        first = self._last
        if first is None:
            self.close()
            raise Unavailable(f"tegrastats printed nothing within {PATIENCE:.0f} s")
        self.gives = frozenset(_given(first))
        self.covers = total(first.rails)[1]

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reading = parse(line, time.monotonic())
            if any(True for _ in _given(reading)):
                self._last = reading
                self._news.set()
        self._news.set()

    def read(self) -> Reading:
        """The last line's. It keeps its time when there is no newer one, and is empty once the program has ended."""
        assert self._last is not None
        return fresh(self._last, self.resolution)

    def close(self) -> None:
        """End the program."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        self._thread.join(PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _given(reading: Reading) -> Iterator[str]:
    if reading.watts is not None:
        yield "power"
    for name in ("cpu_load", "gpu_load", "memory_load", "cpu_mhz", "gpu_mhz", "memory_mhz", "temperatures"):
        if getattr(reading, name) not in (None, {}):
            yield name


def open_source(root: Path) -> Tegrastats:
    """Raises Unavailable."""
    program = shutil.which("tegrastats", path=str(root / "usr/bin"))
    if program is None:
        raise Unavailable("there is no tegrastats")
    try:
        return Tegrastats(program)
    except OSError as error:
        raise Unavailable(f"tegrastats does not start: {error.strerror or error}") from error
