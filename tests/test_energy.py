"""Joules of a query: integrals by hand, a sensor whose power follows what runs, and a simulated board."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest

import finequery
from finequery import energy
from finequery.energy import Energy, integral, measure, powers
from finequery.errors import NotSupportedError
from finequery.jetson.telemetry import Reading, Telemetry, Unavailable

REST_W, LOAD_W = 5.0, 15.0


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rest is measured for less time than users have."""
    monkeypatch.setattr(energy, "REST_S", 0.4)


class Meter:
    """A sensor: ``LOAD_W`` while ``running``, else ``REST_W``, with noise that adds up to nothing."""

    name, covers, whole, gives = "meter", "the whole", True, frozenset(["power"])

    def __init__(self, noise: float = 0.1, counts: bool = False, resolution: float = 0.01, load: float = LOAD_W):
        self.counts, self.resolution, self.load = counts, resolution, load
        self.running = False
        self._noise: Iterator[float] = cycle((noise, -noise))
        self._joules, self._time = 0.0, time.monotonic()
        self.begun: list[float] = []  # when each run began

    def run(self) -> None:
        self.running = True
        self.begun.append(time.monotonic())
        time.sleep(0.004)

    def read(self) -> Reading:
        now = time.monotonic()
        watts = (self.load if self.running else REST_W) + next(self._noise)
        self._joules += watts * (now - self._time)
        self._time = now
        return Reading(now, watts, {"A": 0.25 * watts, "B": 0.75 * watts}, self._joules if self.counts else None)

    def close(self) -> None:
        pass


def measured(meter: Meter, **bounds: float) -> Energy:
    return measure(meter.run, Telemetry([meter]), **{"at_least_s": 0.3, "at_most_s": 1.0, **bounds})


# --- integrals --------------------------------------------------------------------------------------------------------


def test_trapezoids() -> None:
    readings = [Reading(0.0, 10.0), Reading(1.0, 20.0), Reading(3.0, 20.0), Reading(3.5, 0.0)]
    assert integral(readings) == pytest.approx(15 + 40 + 5)
    assert powers(readings) == [10.0, 20.0, 20.0, 0.0]
    assert integral(readings[:1]) == integral([]) == 0.0
    assert integral([Reading(0.0, 10.0), Reading(1.0), Reading(2.0, 10.0)]) == pytest.approx(20.0)  # one is missing


def test_differences_of_a_counter() -> None:
    readings = [Reading(0.0, 7.0, joules=100.0), Reading(1.0, 7.0, joules=100.0), Reading(2.0, 7.0, joules=130.0)]
    assert integral(readings) == 30.0  # whatever its power was
    assert powers(readings) == [15.0]  # over the two seconds in which it moved


# --- measuring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [False, True], ids=["power", "counter"])
def test_rest_is_measured_before_and_both_are_shown(counts: bool) -> None:
    meter = Meter(counts=counts)
    found = measured(meter)
    assert found.joules is not None and found.net is not None and found.error is not None
    assert found.watts == pytest.approx(LOAD_W, rel=0.02) and found.idle_watts == pytest.approx(REST_W, rel=0.02)
    assert found.joules == pytest.approx(LOAD_W * found.seconds, rel=0.02)
    assert found.net == pytest.approx((LOAD_W - REST_W) * found.seconds, rel=0.04)
    assert found.repeats < len(meter.begun)  # those until the sensor had settled do not count
    assert found.error < 0.05 and not found.simulated and found.note == ""
    assert found.rails["B"] == pytest.approx(0.75 * LOAD_W, rel=0.02)
    text = str(found)
    assert "mJ at rest" in text and "above it" in text and "meter (the whole)" in text and "5.0" in text


def test_it_runs_until_the_error_is_small() -> None:
    noisy = measured(Meter(noise=4.0), at_least_s=0.05, at_most_s=5.0, error=0.06)
    steady = measured(Meter(noise=0.01), at_least_s=0.05, at_most_s=5.0, error=0.06)
    assert noisy.error is not None and noisy.error <= 0.06 and noisy.repeats > 2 * steady.repeats


def test_what_does_not_settle_says_so() -> None:
    found = measured(Meter(noise=4.0), at_least_s=0.05, at_most_s=0.3, error=0.001)
    assert found.joules is not None and "not settled" in found.note and "not settled" in str(found)


def test_too_short_to_measure() -> None:
    few = measured(Meter(resolution=0.2), at_most_s=0.5)
    assert few.joules is None and few.note.startswith("too short to measure: ") and "readings" in few.note
    faint = measured(Meter(noise=2.0, load=REST_W + 0.05), at_most_s=0.4)
    assert faint.joules is None and "too short to measure" in faint.note and "tell them apart" in faint.note
    assert faint.watts is not None and "too short" in str(faint) and few.repeats > 1


def test_no_sensor() -> None:
    calls: list[int] = []
    missing = [Unavailable("RAPL: its counters are for root alone", "sudo chmod"), Unavailable("there is no INA3221")]
    found = measure(lambda: calls.append(1), Telemetry([], missing))
    assert len(calls) == found.repeats == 1 and found.joules is found.net is None
    assert found.note == "no sensor of power: RAPL: its counters are for root alone. sudo chmod"


def test_an_error_of_the_query_ends_it() -> None:
    meter = Meter()

    def broken() -> None:
        if len(meter.begun) == 3:
            raise ValueError("no")
        meter.run()

    with pytest.raises(ValueError, match="no"):
        measure(broken, Telemetry([meter]), at_least_s=0.2)


# --- of a relation ----------------------------------------------------------------------------------------------------


def test_energy_of_a_relation(monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery.jetson import telemetry

    meter = Meter()
    opened: list[Any] = []

    def open_power() -> Telemetry:
        opened.append(meter)
        return Telemetry([meter])

    monkeypatch.setattr(telemetry, "open_power", open_power)
    with finequery.connect(threads=1) as con:
        query = con.sql("select sum(range) as s from range(1000)")
        found = query.energy(at_least_s=0.2, at_most_s=0.4)
        assert opened == [meter]
        assert "too short to measure" in found.note  # this meter's power does not follow the query
        assert found.repeats > 1 and query.fetchall() == [(499500,)]
        with pytest.raises(NotSupportedError):
            con.sql("show settings").energy()


def test_energy_on_a_simulated_board_is_the_simulator_s() -> None:
    with finequery.connect(board="agx-xavier") as con:
        query = con.sql("select sum(range) from range(1000000)")
        found = query.energy()
        assert found.simulated and str(found).startswith("simulated: ") and "AGX Xavier" in found.source
        assert found.joules is not None and found.idle_joules is not None and found.net is not None
        assert found.idle_watts == pytest.approx(8.3) and found.idle_joules == pytest.approx(8.3 * found.seconds)
        assert 0 < found.net < found.joules and found.seconds == pytest.approx(query.timeline().seconds)
