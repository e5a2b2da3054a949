"""The conditions of a benchmark, with files of boards under tmp_path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from boards_sysfs import cooling, cpufreq, orin, proc, write, xavier

from finequery.jetson.conditions import best_mode, conditions, warnings
from finequery.jetson.telemetry.clocks import Clock


def test_a_board_in_a_low_mode(tmp_path: Path) -> None:
    found = conditions(xavier(tmp_path))
    assert (found["governor"], found["mode"], found["cores"], found["cores_online"]) == ("schedutil", "MODE_15W", 8, 4)
    assert found["modes"] == {"MAXN": 0, "MODE_10W": 1, "MODE_15W": 2, "MODE_30W_ALL": 3}
    assert found["clocks"] == {"cpu": 1200.0, "gpu": 675.0} and found["steady"] == []
    assert found["clocks_now"] == {"cpu": 1000.0, "gpu": 318.0, "memory": None}
    assert found["clocks_highest"] == {"cpu": 2266.0, "gpu": 1377.0}
    assert found["temperatures"] == {"cpu": 41.5, "gpu": 40.0} and found["load_average"] == [0.1, 0.1, 0.1]
    assert found["warnings"] == [
        "the power mode is MODE_15W, not MAXN (sudo nvpmodel -m 0)",
        "4 of 8 cores are switched on",
        "the CPU may go up to 1200 of 2266 MHz only",
        "the CPU's governor is schedutil: its clock ramps up only while the benchmark runs (sudo jetson_clocks)",
        "the GPU may go up to 675 of 1377 MHz only",
        "the GPU's governor is nvhost_podgov: its clock ramps up only while the benchmark runs (sudo jetson_clocks)",
        "the GPU is 45% busy",
    ]
    assert json.loads(json.dumps(found)) == found


def test_a_board_that_is_ready(tmp_path: Path) -> None:
    """After jetson_clocks the governors are the same, but have nothing to choose."""
    found = conditions(write(orin(tmp_path), {"sys/class/devfreq/17000000.gpu/device/load": 0}))
    assert found["warnings"] == [] and found["mode"] == "MAXN"


def test_heat_others_and_current(tmp_path: Path) -> None:
    tree = {**cooling(1, "gpu-throttle-alert", 2), **proc(load=3.5), "sys/class/hwmon/hwmon1/oc3_event_cnt": 8}
    found = conditions(write(orin(tmp_path), tree))
    assert found["throttled"] is True and found["over_current"] == 8
    assert found["warnings"] == [
        "the machine is slowed down: gpu-throttle-alert is at 2 of 3",
        "over-current protection has slowed the chip down 8 times since the start",
        "3.5 of 4 cores were busy over the last minute (load average)",
        "the GPU is 80% busy",
    ]


def test_an_x86_machine(tmp_path: Path) -> None:
    found = conditions(write(tmp_path, {**cpufreq(0, "0 1", 900, 800, 3600, 3600, "powersave"), **proc()}))
    assert found["mode"] == "" and found["modes"] == {}
    assert [text for text in found["warnings"] if "cpupower frequency-set" in text]
    write(tmp_path, cpufreq(0, "0 1", 900, 800, 3600, 3600, "performance"))
    assert not [text for text in conditions(tmp_path)["warnings"] if "governor" in text]


def test_nothing_to_see(tmp_path: Path) -> None:
    found = conditions(tmp_path)
    assert found["governor"] == "" and found["load_average"] == [] and found["throttled"] is None
    assert found["warnings"] == [] and isinstance(warnings(), list)


@pytest.mark.parametrize(
    ("modes", "best"),
    [
        (["MAXN", "MODE_10W", "MODE_30W_ALL"], "MAXN"),
        (["15W", "25W", "MAXN_SUPER", "7W"], "MAXN_SUPER"),
        (["MODE_15W_2CORE", "MODE_20W_6CORE"], "MODE_20W_6CORE"),
        ([], ""),
    ],
)
def test_best_mode(modes: list[str], best: str) -> None:
    assert best_mode(modes) == best


@pytest.mark.parametrize(
    ("clock", "throttled", "attainable"),
    [
        (Clock(318, 114, 1377, 1377, "nvhost_podgov"), False, 1377),  # it goes up under load
        (Clock(318, 114, 1377, 1377, "nvhost_podgov"), True, 318),
        (Clock(500, 114, 1377, 1377, "userspace"), False, 500),
        (Clock(500), False, 500),
        (Clock(None, None, 1200), True, 1200),
        (Clock(), False, None),
    ],
)
def test_the_clock_that_work_runs_at(clock: Clock, throttled: bool, attainable: float | None) -> None:
    assert clock.attainable(throttled) == attainable
