"""What placement is told of the machine: others on the GPU, clocks and the power mode, by fake sensors."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from boards_sysfs import cooling, devfreq, orin, write, xavier

import finequery
from finequery import scheduling
from finequery.jetson import board as boards
from finequery.jetson.telemetry import Reading, Telemetry
from finequery.jetson.telemetry import observer as observing
from finequery.jetson.telemetry.observer import Observer, State, busy
from finequery.perfmodel.model import load_model

# --- the state of the machine -----------------------------------------------------------------------------------------


def test_state_of_a_board(tmp_path: Path) -> None:
    state = Observer(xavier(tmp_path)).state()
    assert state == State(0.4, "MODE_15W", 1200.0, 675.0, None, False)  # 45 %, in steps; the clocks under load
    write(tmp_path, cooling(1, "gpu-throttle-alert", 1))
    state = Observer(tmp_path).state()
    assert (state.cpu_mhz, state.gpu_mhz, state.throttled) == (1200.0, 675.0, True)  # at rest no clock says how much
    write(tmp_path, {"sys/class/devfreq/17000000.gv11b/device/load": 900})
    state = Observer(tmp_path).state()
    assert (state.cpu_mhz, state.gpu_mhz, state.throttled) == (1200.0, 318.0, True)  # at work the clock of now does
    assert Observer(tmp_path / "nothing").state() == State()


def wait(observer: Observer, load: float) -> bool:
    """Ask until the background has seen a load."""
    for _ in range(200):
        if observer.state().gpu_load == load:
            return True
        time.sleep(0.01)
    return False


def gpu(root: Path, thousandths: int) -> None:
    write(root, {"sys/class/devfreq/17000000.gpu/device/load": thousandths})


def test_samples_are_taken_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observer = Observer(orin(tmp_path))
    assert observer.state().gpu_load == 0.8
    gpu(tmp_path, 300)
    assert observer.state().gpu_load == 0.8  # it is not a second old
    monkeypatch.setattr(observing, "PERIOD", 0.0)
    assert wait(observer, 0.3)
    gpu(tmp_path, 1000)
    assert wait(observer, 0.9)  # something is left to us
    gpu(tmp_path, 850)  # less than a step away
    time.sleep(0.05)
    assert wait(observer, 0.9)


def test_own_queries_are_no_load_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "PERIOD", 0.0)
    observer = Observer(orin(tmp_path))
    assert observer.state().gpu_load == 0.8
    gpu(tmp_path, 1000)
    with observer.ours() as spans:
        time.sleep(0.05)
        observer.state()
        time.sleep(0.05)
        assert observer.state().gpu_load == 0.8  # nothing is said while one of ours runs
        spans.append((time.monotonic() - 10.0, time.monotonic() + 10.0))
    assert wait(observer, 0.0)  # all of the window was ours
    again = Observer(tmp_path)
    monkeypatch.setattr(observing, "UNCLEAR", 0.99)  # on a busy machine a sample takes part of its window
    with again.ours():
        assert again.state().gpu_load == 0.9  # it has just begun: what was on the GPU was others'


def test_what_a_query_did_on_the_gpu_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, float]] = []

    class Listening(Observer):
        @contextmanager
        def ours(self) -> Iterator[list[tuple[float, float]]]:
            yield told

    cached = functools.lru_cache(Listening)
    monkeypatch.setattr(scheduling, "observer", cached)
    spans = [("cpu", 0.0, 1.0), ("gpu", 1.0, 2.0)]

    def context(simulated: bool) -> Any:
        device = SimpleNamespace(info=SimpleNamespace(simulated=simulated))
        return SimpleNamespace(gpu=device, measured={1: SimpleNamespace(spans=spans)})

    with scheduling.ours(context(simulated=False)):
        pass
    assert told == []  # nobody asks for the load of others
    cached()
    with scheduling.ours(context(simulated=True)):
        pass
    assert told == []  # threads that pose
    with pytest.raises(ValueError), scheduling.ours(context(simulated=False)):
        raise ValueError
    assert told == [(1.0, 2.0)]


def test_share_of_a_window() -> None:
    assert busy([(0.0, 1.0), (0.5, 1.5), (1.9, 9.0)], 0.5, 1.5) == pytest.approx((1.0 + 0.1) / 1.5)
    assert busy([], 0.0, 1.0) == 0.0 and busy([(-3.0, -1.0)], 0.0, 1.0) == 0.0


def test_a_source_that_tells_processes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        name, resolution, gives, covers, whole = "card", 0.1, frozenset(["gpu_load"]), "", False
        asked: list[int] = []

        def read(self) -> Reading:
            return Reading(0.0, gpu_load=1.0)

        def others(self, since: int) -> tuple[float, int]:
            self.asked.append(since)
            return 0.5, since + 7

        def close(self) -> None:
            pass

    card = Card()
    monkeypatch.setattr(observing, "open_telemetry", lambda root, order: Telemetry([card]))
    monkeypatch.setattr(observing, "STALE", -1.0)
    observer = Observer()
    with observer.ours():
        assert observer.state().gpu_load == observer.state().gpu_load == 0.5
    assert card.asked == [0, 7]


# --- boards and models at the clocks of now ---------------------------------------------------------------------------


def test_the_mode_that_is_set() -> None:
    xavier_board = boards.load("agx-xavier")
    assert boards.in_mode(xavier_board, "MODE_15W").name == "agx-xavier:15W"
    assert boards.in_mode(boards.load("orin-nano"), "7W").name == "orin-nano:7W"
    assert boards.in_mode(xavier_board, "MODE_99W") is xavier_board


def test_clocks_in_force() -> None:
    full = boards.load("agx-xavier")
    assert boards.at_clocks(full) is full
    slow = boards.at_clocks(full, 0.5, 0.25)
    assert (slow.name, slow.cpu.mhz, slow.gpu.mhz) == ("agx-xavier", full.cpu.mhz / 2, full.gpu.mhz / 4)
    assert slow.cpu.speed == pytest.approx(full.cpu.speed / 2) and slow.memory == full.memory
    assert slow.title.endswith("clocks held to: CPU 50%, GPU 25%")
    for name in boards.names():  # every board can be slow
        one = boards.load(name)
        assert boards.at_clocks(one, 0.05, 0.05, 0.05).cpu.mhz == pytest.approx(one.cpu.mhz / 20)


def test_a_state_s_board() -> None:
    full = boards.load("agx-xavier")
    assert scheduling.at_state(full, State()) == (full, full)
    moded, now = scheduling.at_state(full, State(mode="MODE_15W", cpu_mhz=1200.0, gpu_mhz=670.0))
    assert moded.name == "agx-xavier:15W" and now is moded  # as fast as the mode allows
    moded, now = scheduling.at_state(full, State(mode="MAXN", cpu_mhz=2265.6, gpu_mhz=420.0))
    assert now.gpu is not None and now.gpu.mhz == pytest.approx(0.3 * 1377) and now.cpu == full.cpu
    assert scheduling.at_state(full, State(cpu_mhz=9999.0))[1] is full


def test_prices_at_a_low_clock() -> None:
    from finequery.perfmodel.features import Features

    full = boards.load("agx-xavier")
    model = load_model(full)
    slow = model.at(boards.at_clocks(full, 0.5, 0.5))
    assert slow.correction is model.correction and slow.source == model.source
    work = [Features("filter", rows=1e7, rows_out=1e6, bytes_in=1.0, steps=40.0)]  # arithmetic, not memory
    for device, threads in (("cpu", 1), ("gpu", 1)):
        before, after = (m.price(work, device, threads=threads)[0].seconds for m in (model, slow))
        assert 1.2 < after / before < 3.0


# --- placement --------------------------------------------------------------------------------------------------------

SQL = "select y, sum(x) as s from t where x > 100 group by y"


class Told:
    """An observer that is told what it tells."""

    def __init__(self) -> None:
        self.now = State()

    def state(self) -> State:
        return self.now


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """This machine is taken for an AGX Xavier with its GPU, for which threads pose."""
    from finequery.operators.sides import Posing
    from finequery.session import Session

    found, device = Told(), Posing()
    cached = type("Cached", (), {"__call__": lambda self: found, "cache_info": lambda self: None})()
    monkeypatch.setattr(scheduling, "described", lambda: boards.load("agx-xavier"))
    monkeypatch.setattr(scheduling, "observer", cached)
    monkeypatch.setattr(Session, "device", lambda self: None if self.settings["device"] == "cpu" else device)
    return found


@pytest.fixture
def con(told: Told) -> Iterator[Any]:
    with finequery.connect(threads=8) as made:  # as many as the board has cores
        made.execute("create table t as select range as x, range % 1000 as y from range(3000000)")
        yield made


def shown(con: Any) -> str:
    return con.sql(SQL).explain()


def test_a_gpu_that_others_keep_busy_gives_work_to_the_cpu(con: Any, told: Told) -> None:
    want = sorted(con.sql(SQL).fetchall())
    shares = {}
    for load in (0.0, 0.8):
        told.now = State(load)
        text = shown(con)
        assert ("others keep 80% of the GPU busy" in text) == (load == 0.8)
        (scheduler,) = con.sql(SQL).plan.schedulers.values()  # the same one, placed anew
        placement = scheduler.schedule.placed[0].chosen.placement
        shares[load] = {"gpu": 1.0, "cpu": 0.0}.get(placement.device, placement.share)
        assert sorted(con.sql(SQL).fetchall()) == want
    assert shares[0.8] < 0.6 * shares[0.0]
    con.execute("set gpu_load = 0")  # who knows better says so
    assert "others keep" not in shown(con)


def test_heat_slows_prices(con: Any, told: Told) -> None:
    prices = []
    for state in (State(), State(cpu_mhz=1132.8, gpu_mhz=688.5, throttled=True)):
        told.now = state
        text = shown(con)
        (scheduler,) = con.sql(SQL).plan.schedulers.values()
        prices.append(scheduler.schedule.price.seconds)
        assert ("clocks held to: CPU 50%, GPU 50%" in text) == state.throttled
    assert prices[1] > 1.2 * prices[0]


def test_a_simulated_board_has_no_sensors(told: Told) -> None:
    told.now = State(0.8, gpu_mhz=100.0)
    with finequery.connect(board="agx-xavier") as made:
        assert made.sql("show gpu_load").fetchall() == [("auto",)]
        text = made.sql("select sum(range) from range(1000000)").explain()
    assert "others keep" not in text and "clocks held" not in text


def test_without_a_gpu_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("a sensor was asked")

    monkeypatch.setattr(scheduling, "observer", never)
    monkeypatch.setenv("FINEQUERY_CUDA", "off")
    with finequery.connect() as made:
        assert made.sql("select sum(range) from range(10)").fetchall() == [(45,)]
        assert "Pipeline 1" in made.sql("select sum(range) from range(10)").explain()


def test_the_gpu_folder_of_old_and_new_kernels(tmp_path: Path) -> None:
    for name in ("17000000.gv11b", "17000000.ga10b", "17000000.gpu"):
        root = write(tmp_path / name, devfreq(name, 500, 100, 600, "100 500 600", None))
        assert Observer(root).state().gpu_mhz == 600.0
