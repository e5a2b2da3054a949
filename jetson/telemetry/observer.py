"""What placement wants to know of the machine now: the GPU's load by others, the power mode, and the clocks in force.

Nothing is sampled while no query asks. One that asks gets the last state at once and has a new one taken in the
background if the last is older than ``PERIOD``; only the first, and one after a long rest, wait for it (some file reads
on a Jetson, a few calls of NVML).

Own queries must not count as others. NVML tells processes apart on discrete GPUs. Elsewhere the time that queries of
this process were on the GPU within the sensor's window is subtracted, and a sample taken while one of them runs is
dropped: one that is asked for as a query begins is not.
What that can't see: queries of another process of FineQuery count as others', and others that run only while this
process keeps the GPU busy all the time are not noticed (what they cost shows in measured times, from which the model
learns: perfmodel/correct.py).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finequery.jetson.telemetry import clocks
from finequery.jetson.telemetry.composite import LOADS, Telemetry, open_telemetry
from finequery.jetson.telemetry.files import Files
from finequery.jetson.telemetry.reading import Shared, share

#: Seconds after which a state is old, and after which nobody is to be given it.
PERIOD, STALE = 1.0, 10.0
#: Loads are told in steps, so that plans are not placed anew for nothing, and leave us something.
STEP, MOST = 0.1, 0.9
#: Share of the sensor's window in which a query that still runs may have been on the GPU, that spoils a sample.
UNCLEAR = 0.25
#: Load from which a clock of now is that of work: at rest it is low, whatever slows the machine down.
WORKING = 0.5


@dataclass(frozen=True, slots=True)
class State:
    """The machine now. Clocks are those that work will run at, in MHz; None where nothing tells."""

    gpu_load: float = 0.0  # of others, 0 to ``MOST``
    mode: str = ""
    cpu_mhz: float | None = None
    gpu_mhz: float | None = None
    memory_mhz: float | None = None
    throttled: bool = False


class Observer:
    """The state of a machine, sampled when it is asked for."""

    def __init__(self, root: str | Path = "/"):
        self._root = Path(root)
        self._files = Files(root)
        self._telemetry: Telemetry | None = None
        self._state = State()
        self._at = float("-inf")  # when the state was taken
        self._lock = threading.Lock()
        self._sampling = threading.Lock()
        self._running: list[float] = []  # when the queries of this process began that may be on the GPU
        self._ours: deque[tuple[float, float]] = deque(maxlen=256)  # when they were: begin and end
        self._stamp = 0  # of the newest sample of processes

    def state(self) -> State:
        """The state, at most ``STALE`` seconds old."""
        age = time.monotonic() - self._at
        if age > STALE:
            with self._sampling:
                if time.monotonic() - self._at > STALE:
                    self._sample()
        elif age > PERIOD and self._sampling.acquire(blocking=False):
            threading.Thread(target=self._refresh, name="finequery-observer", daemon=True).start()
        return self._state

    @contextmanager
    def ours(self) -> Iterator[list[tuple[float, float]]]:
        """A query of this process that may use the GPU. Put into the list when it did: begin and end, by
        time.perf_counter() or time.monotonic(), which are one clock on Linux."""
        spans: list[tuple[float, float]] = []
        begin = time.monotonic()
        with self._lock:
            self._running.append(begin)
        try:
            yield spans
        finally:
            with self._lock:
                self._running.remove(begin)
                self._ours.extend(spans)

    def _refresh(self) -> None:
        try:
            self._sample()
        finally:
            self._sampling.release()

    def _sample(self) -> None:
        """Take a state; ``_sampling`` is held."""
        if self._telemetry is None:
            self._telemetry = open_telemetry(self._root, LOADS)
        reading = self._telemetry.read()
        throttled = bool(reading.throttled)
        load = self._others(self._telemetry, reading.gpu_load)
        held = self._state.gpu_load
        if load is not None and (abs(load - held) >= STEP or load < STEP / 2):
            held = min(round(load / STEP) * STEP, MOST)
        self._state = State(
            round(held, 3),
            reading.mode,
            clocks.cpu(self._files).attainable(throttled and (reading.cpu_load or 0.0) > WORKING),
            self._telemetry.gpu_clock().attainable(throttled and (reading.gpu_load or 0.0) > WORKING),
            reading.memory_mhz,
            throttled,
        )
        self._at = time.monotonic()

    def _others(self, telemetry: Telemetry, load: float | None) -> float | None:
        """The GPU's load by others; None where that is not to be told now."""
        for source in telemetry.sources:
            found = source.others(self._stamp) if isinstance(source, Shared) else None
            if found is not None:
                self._stamp = found[1]
                return found[0]
        if load is None:
            return None
        window = max((s.resolution for s in telemetry.sources if "gpu_load" in s.gives), default=PERIOD)
        now = time.monotonic()
        with self._lock:
            running, ours = [(begin, now) for begin in self._running], list(self._ours)
        if busy(running, now - window, window) > UNCLEAR:
            return None
        return share(load - busy(ours, now - window, window))


def busy(spans: Iterable[tuple[float, float]], begin: float, seconds: float) -> float:
    """The share of a time in which at least one of the spans ran."""
    end, gone, reached = begin + seconds, 0.0, begin
    for first, last in sorted(spans):
        first, last = max(first, reached), min(last, end)
        if last > first:
            gone, reached = gone + last - first, last
    return gone / seconds
