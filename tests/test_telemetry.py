"""Sensors: files of boards under tmp_path, recorded lines of tegrastats, modules that stand for jtop and NVML."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from boards_sysfs import cooling, orin, orin_nano, proc, rapl, root_only, write, xavier, zone
from fake_cuda import H100, ORIN, Library, Machine

from finequery.jetson import driver
from finequery.jetson.telemetry import LOADS, Reading, Unavailable, open_power, open_telemetry
from finequery.jetson.telemetry import jtop as jtop_source
from finequery.jetson.telemetry import nvml as nvml_source
from finequery.jetson.telemetry import rapl as rapl_source
from finequery.jetson.telemetry.ina3221 import JETPACK
from finequery.jetson.telemetry.rails import total
from finequery.jetson.telemetry.reading import fresh
from finequery.jetson.telemetry.tegrastats import parse

# --- files ------------------------------------------------------------------------------------------------------------


def test_xavier(tmp_path: Path) -> None:
    with open_telemetry(xavier(tmp_path)) as telemetry:
        assert telemetry.name == "INA3221" and telemetry.resolution == pytest.approx(0.43)
        assert telemetry.covers == "GPU + CPU + SOC + CV + VDDRQ + SYS5V"
        before = time.monotonic()
        write(tmp_path, proc(busy=30 + 25, idle=60 + 70, wait=10 + 5))  # 25 of 100 ticks since
        reading = telemetry.read()
        text = telemetry.describe()
    assert reading.rails == pytest.approx({"GPU": 2, "CPU": 3, "SOC": 1, "CV": 0, "VDDRQ": 1, "SYS5V": 2})
    assert reading.watts == pytest.approx(9.0) and reading.joules is None
    assert before <= reading.time <= time.monotonic()
    assert (reading.gpu_load, reading.gpu_mhz, reading.mode) == (0.45, 318.0, "MODE_15W")
    assert reading.cpu_load == pytest.approx(0.25) and reading.cpu_mhz == pytest.approx(1000.0)
    assert reading.temperatures == {"cpu": 41.5, "gpu": 40.0}  # neither a constant nor a sensor that is off
    assert reading.throttled is False  # a fan that turns slows nothing down
    assert "INA3221: power; every 430 ms" in text and "sysfs: GPU load, GPU clock, power mode" in text


def test_orin_memory_rail_is_within_another(tmp_path: Path) -> None:
    with open_telemetry(orin(tmp_path)) as telemetry:
        reading = telemetry.read()
    assert telemetry.resolution == JETPACK  # the kernel does not say here
    assert reading.watts == pytest.approx(5 + 2 + 4)
    assert reading.rails["VDDQ_VDD2_1V8AO"] == pytest.approx(1.0) and "NC" not in reading.rails
    assert telemetry.covers == "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
    assert reading.gpu_load == 0.8


def test_an_input_rail_is_the_whole(tmp_path: Path) -> None:
    with open_telemetry(orin_nano(tmp_path)) as telemetry:
        assert telemetry.covers == "VDD_IN" and telemetry.read().watts == pytest.approx(8.0)
    assert total({}) == (None, "")


def test_files_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root_only(monkeypatch, "_input", "energy_uj")
    with open_telemetry(xavier(tmp_path)) as telemetry:
        assert telemetry.name == "none" and telemetry.read().watts is None
        text = telemetry.describe()
        assert "INA3221: its files are for root alone. sudo chmod a+r /sys/bus/i2c" in text
        assert "No sensor of power can be read here." in text
        assert telemetry.read().gpu_load == 0.45  # the rest is there
    with pytest.raises(Unavailable, match="for root alone") as refused:
        rapl_source.open_source(rapl(tmp_path / "x86", 0, 0))
    assert "energy_uj" in refused.value.hint


def test_rapl_wraps_around(tmp_path: Path) -> None:
    source = rapl_source.open_source(rapl(tmp_path, package=900_000, dram=100_000))
    assert source.covers == "CPU package-0 + CPU dram"  # cores stand within the package, psys around all
    assert source.read().joules == 0.0
    rapl(tmp_path, package=400_000, dram=150_000)  # past 1 J: 0.1 J up to it and 0.4 J from there
    time.sleep(0.02)
    reading = source.read()
    assert reading.joules == pytest.approx(0.5 + 0.05)
    rapl(tmp_path, package=400_001, dram=150_000)
    assert source.read().joules == pytest.approx(0.550001)  # it does not wrap any more
    assert reading.watts == pytest.approx(sum(reading.rails.values())) and 0 < reading.watts < 0.55 / 0.02


def test_throttling(tmp_path: Path) -> None:
    xavier(tmp_path)

    def slowed(tree: dict[str, object]) -> list[str] | None:
        with open_telemetry(write(tmp_path, tree), LOADS) as telemetry:
            found = telemetry.throttling()
            assert telemetry.read().throttled is (bool(found) if found is not None else None)
            return found

    assert slowed({}) == []
    assert slowed(cooling(1, "gpu-throttle-alert", 1)) == ["gpu-throttle-alert is at 1 of 3"]
    assert slowed({**cooling(1, "TCC Offset", 3), **zone(0, "CPU-therm", 95500, 95500)}) == [
        "cpu is at 96 °C and is slowed down from 96 °C on"
    ]


def test_no_sensor_at_all(tmp_path: Path) -> None:
    with open_telemetry(tmp_path) as telemetry:
        assert telemetry.name == "none" and telemetry.sources == []
        reading = telemetry.read()
    assert reading == Reading(reading.time)


def test_a_sensor_that_is_off_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery.jetson.telemetry import files

    real = files.read_bytes

    def read_bytes(path: str) -> bytes:
        if path.endswith("thermal_zone1/temp"):
            raise BlockingIOError(11, "Resource temporarily unavailable")  # as the kernel does
        return real(path)

    monkeypatch.setattr(files, "read_bytes", read_bytes)
    with open_telemetry(xavier(tmp_path)) as telemetry:
        assert telemetry.read().temperatures == {"cpu": 41.5}


def test_import_opens_nothing() -> None:
    code = (
        "import os, sys\n"
        "import finequery\n"
        "assert not [m for m in sys.modules if 'telemetry' in m or 'energy' in m], sys.modules\n"
        "opened = []\n"
        "con = finequery.connect()\n"
        "con.sql('select 1').fetchall()\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "con.sql('select 42').fetchall()\n"
        "assert not [p for p in opened if p.startswith(('/sys', '/proc'))], opened\n"
        "assert not [m for m in sys.modules if 'telemetry' in m], 'telemetry'\n"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root), "FINEQUERY_CUDA": "off"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# --- tegrastats -------------------------------------------------------------------------------------------------------

NANO = (
    "RAM 2519/3956MB (lfb 3x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [12%@1479,off,7%@1479,20%@1479] "
    "EMC_FREQ 9%@1600 GR3D_FREQ 45%@921 NVDEC 716 APE 25 PLL@33C CPU@36.5C PMIC@100C GPU@34C AO@41C thermal@35.25C "
    "POM_5V_IN 3187/3187 POM_5V_GPU 450/450 POM_5V_CPU 612/612"
)
XAVIER = (
    "RAM 5059/30623MB (lfb 5843x4MB) CPU [15%@1190,5%@1190] EMC_FREQ 0% GR3D_FREQ 12%@318 APE 150 AUX@31C CPU@32.5C "
    "GPU@-256C GPU 120/100 CPU 468/450 SOC 937/900 CV 0/0 VDDRQ 312/234 SYS5V 1458/1400"
)
JETPACK_7 = (
    "11-14-2024 22:54:33 RAM 8179/62817MB (lfb 1x4MB) SWAP 0/31408MB (cached 0MB) CPU [35%@1113,24%@1113] "
    "EMC_FREQ 3%@3199 GR3D_FREQ 32%@[305] cpu@51.968C/51.968C tj@51.968C/52.1C VDD_GPU_SOC 4385mW/3787mW/4385mW "
    "VDD_CPU_CV 1196mW/897mW/1196mW VIN_SYS_5V0 5552mW/5274mW/5552mW"
)


def test_tegrastats_of_nano() -> None:
    r = parse(NANO, 7.0)
    assert (r.time, r.watts) == (7.0, 3.187)  # the input's rail, not the sum
    assert r.rails == {"POM_5V_IN": 3.187, "POM_5V_GPU": 0.45, "POM_5V_CPU": 0.612}
    assert r.cpu_load == pytest.approx(0.13) and r.cpu_mhz == 1479.0  # of the three cores that are on
    assert (r.gpu_load, r.gpu_mhz, r.memory_load, r.memory_mhz) == (0.45, 921.0, 0.09, 1600.0)
    assert r.temperatures == {"pll": 33.0, "cpu": 36.5, "gpu": 34.0, "ao": 41.0, "thermal": 35.25}


def test_tegrastats_of_xavier() -> None:
    r = parse(XAVIER, 0.0)
    assert r.rails == {"GPU": 0.12, "CPU": 0.468, "SOC": 0.937, "CV": 0.0, "VDDRQ": 0.312, "SYS5V": 1.458}
    assert r.watts == pytest.approx(3.295) and r.temperatures == {"aux": 31.0, "cpu": 32.5}
    assert r.memory_load is None  # who is not root gets 0%


def test_tegrastats_of_orin() -> None:
    r = parse(JETPACK_7, 0.0)
    assert r.watts == pytest.approx(4.385 + 1.196 + 5.552) and r.cpu_load == pytest.approx(0.295)
    assert (r.gpu_load, r.gpu_mhz, r.memory_load, r.memory_mhz) == (0.32, 305.0, 0.03, 3199.0)
    assert r.temperatures == {"cpu": 51.968, "tj": 51.968}


@pytest.mark.parametrize("line", ["", "tegrastats: command not found", "RAM 1/2MB", "\0\0"])
def test_tegrastats_says_something_else(line: str) -> None:
    assert parse(line, 1.0) == Reading(1.0)


def test_tegrastats_runs(tmp_path: Path) -> None:
    program = write(tmp_path, {"usr/bin/tegrastats": f"#!/bin/sh\necho starting\necho '{XAVIER}'\nexec sleep 60"})
    (program / "usr/bin/tegrastats").chmod(0o755)
    with open_telemetry(tmp_path) as telemetry:
        assert (telemetry.name, telemetry.resolution) == ("tegrastats", 0.5)
        first = telemetry.read()
        assert first.watts == pytest.approx(3.295) and first.gpu_load == 0.12
        assert telemetry.read().time == first.time  # there is no newer line
        process = telemetry.sources[0]._process  # type: ignore[attr-defined]
    assert process.poll() is not None  # closed


def test_a_program_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    last = Reading(time.monotonic() - 1.0, 7.0)
    assert fresh(last, 0.5) is last
    assert fresh(last, 0.1).watts is None and fresh(last, 0.1).time > last.time


def test_tegrastats_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery.jetson.telemetry import tegrastats

    write(tmp_path, {"usr/bin/tegrastats": "#!/bin/sh\necho nothing"})
    (tmp_path / "usr/bin/tegrastats").chmod(0o755)
    with pytest.raises(Unavailable, match="printed nothing"):
        tegrastats.open_source(tmp_path)


def test_tegrastats_is_not_started_where_files_say_it_all(tmp_path: Path) -> None:
    write(xavier(tmp_path), {"usr/bin/tegrastats": "#!/bin/sh\nexit 1"})
    (tmp_path / "usr/bin/tegrastats").chmod(0o755)
    with open_telemetry(tmp_path) as telemetry:
        assert [source.name for source in telemetry.sources] == ["INA3221", "sysfs", "Linux"]


# --- jtop -------------------------------------------------------------------------------------------------------------


def fake_jtop(error: str = "", silent: bool = False) -> Any:
    class Client:
        power: Any = {
            "rail": {
                "GPU": {"power": 2000, "online": True},
                "CPU": {"power": 3500, "online": True},
                "UCSI": {"power": 9000, "online": False},
            },
            "tot": {"power": 5500, "avg": 1},
        }
        gpu: Any = {"gv11b": {"status": {"load": 62.5}, "freq": {"cur": 905000}}}
        cpu: Any = {
            "total": {"user": 20.0, "system": 5.0, "idle": 75.0},
            "cpu": [{"online": True, "freq": {"cur": 1_200_000}}, {"online": False}],
        }
        memory: Any = {"EMC": {"cur": 1_331_200, "val": 18}, "RAM": {"used": 1}}
        temperature: Any = {"CPU": {"temp": 41.5, "online": True}, "CV": {"temp": -256.0, "online": False}}
        nvpmodel: Any = SimpleNamespace(name="15W", id=2)

        def __init__(self, interval: float):
            assert interval == 1.0
            self.closed, self.observer = False, None

        def attach(self, observer: Callable[[Any], None]) -> None:
            self.observer = observer

        def start(self) -> None:
            if error:
                raise RuntimeError(error)
            if not silent:
                assert self.observer is not None
                self.observer(self)

        def close(self) -> None:
            self.closed = True

    module = ModuleType("jtop")
    module.jtop = Client  # type: ignore[attr-defined]
    return module


def test_jtop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jtop", fake_jtop())
    with open_telemetry(order=("jtop", "tegrastats")) as telemetry:
        assert (telemetry.name, telemetry.resolution, telemetry.covers) == ("jtop", 1.0, "GPU + CPU")
        r = telemetry.read()
        assert r.rails == {"GPU": 2.0, "CPU": 3.5} and r.watts == 5.5
        assert (r.cpu_load, r.gpu_load, r.memory_load) == (0.25, 0.625, 0.18)
        assert (r.cpu_mhz, r.gpu_mhz, r.memory_mhz) == (1200.0, 905.0, 1331.2)
        assert r.temperatures == {"cpu": 41.5} and r.mode == "15W"
        client: Any = telemetry.sources[0]
        client._client.power = {"rail": {"GPU": {"power": 1}}, "tot": {"name": "VDD_IN", "power": 8000}}
        client._client.nvpmodel = client._client.gpu = client._client.cpu = client._client.memory = None
        client._client.observer(client._client)
        r = telemetry.read()
        assert (r.watts, r.gpu_load, r.cpu_load, r.mode) == (8.0, None, None, "")
    assert client._client.closed


def test_jtop_that_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jtop_source, "PATIENCE", 0.01)
    for module, said in (
        (fake_jtop(error="The jtop.service is not active. Please run:\nsudo jtop --install-service"), "not active"),
        (fake_jtop(silent=True), "no values within"),
        (None, "not installed"),
    ):
        monkeypatch.setitem(sys.modules, "jtop", module)
        with pytest.raises(Unavailable, match=said) as refused:
            jtop_source.open_source(Path("/"))
        assert "\n" not in refused.value.reason
    with pytest.raises(Unavailable, match="another root"):
        jtop_source.open_source(tmp_path)


def test_the_finest_power_for_energy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """jtop comes first, except where short runs are to be measured."""
    xavier(tmp_path)
    monkeypatch.setattr(jtop_source, "open_source", lambda root: jtop_source.Jtop(fake_jtop()))
    with open_telemetry(tmp_path) as telemetry:
        assert telemetry.name == "jtop" and telemetry.read().watts == 5.5
        assert [source.name for source in telemetry.sources] == ["jtop", "Linux"]  # for throttling alone
    with open_power(tmp_path) as telemetry:
        assert telemetry.name == "INA3221" and telemetry.power().watts == pytest.approx(9.0)
        assert len(telemetry.sources) == 1 and telemetry.power().gpu_load is None  # no other is opened or asked


# --- NVML -------------------------------------------------------------------------------------------------------------


class FakeNvml(ModuleType):
    """pynvml with one H100: 300 W, of which 12.5 J so far."""

    class NVMLError(Exception):
        pass

    def __init__(self, **values: Any):
        super().__init__("pynvml")
        self.values: dict[str, Any] = {
            "nvmlDeviceGetName": b"NVIDIA H100",
            "nvmlDeviceGetPowerUsage": 300_000,
            "nvmlDeviceGetTotalEnergyConsumption": 12_500,
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=80, memory=35),
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetClockInfo": {1: 1755, 2: 2619},
            "nvmlDeviceGetMaxClockInfo": {1: 1980},
            "nvmlDeviceGetPowerManagementLimit": 700_000,
            "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
            "nvmlDeviceGetCurrentClocksEventReasons": 0,
            **values,
        }
        self.ended = False
        self.asked: list[Any] = []

    def nvmlInit(self) -> None:
        if "broken" in self.values:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:
        self.ended = True

    def nvmlDeviceGetHandleByPciBusId(self, place: str) -> str:
        self.asked.append(place)
        return "the one"

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})
        if name not in values:
            raise AttributeError(name)

        def ask(device: str, *arguments: Any) -> Any:
            assert device == "the one"
            value = values[name]
            if value is None:
                raise self.NVMLError("Not Supported")
            return value.get(arguments[0]) if isinstance(value, dict) else value

        return ask


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> Any:
    machine = Machine(Library(H100 | {33: 0x1B, 34: 0, 50: 0}))
    monkeypatch.setattr(driver, "load", lambda: (machine.driver, ""))


def test_nvml(monkeypatch: pytest.MonkeyPatch, h100: Any) -> None:
    module = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    with open_telemetry(order=("nvml",)) as telemetry:
        r = telemetry.read()
        assert (telemetry.name, telemetry.resolution) == ("NVML", 0.1)
        assert telemetry.covers == "NVIDIA H100, without the processor"
        assert (r.watts, r.joules, r.rails) == (300.0, 12.5, {"NVIDIA H100": 300.0})
        assert (r.gpu_load, r.memory_load, r.gpu_mhz, r.memory_mhz) == (0.8, 0.35, 1755.0, 2619.0)
        assert (r.temperatures, r.mode, r.throttled) == ({"gpu": 61.0}, "", False)
        assert telemetry.gpu_clock().attainable() == 1980.0 and telemetry.gpu_clock().attainable(True) == 1755.0
    assert module.ended and module.asked == ["00000000:1b:00.0"]


def test_nvml_of_an_old_card_and_driver(monkeypatch: pytest.MonkeyPatch, h100: Any) -> None:
    """Before Volta there is no energy, and before driver 535 the reasons have another name."""
    values = {"nvmlDeviceGetTotalEnergyConsumption": None, "nvmlDeviceGetCurrentClocksThrottleReasons": 0x41}
    module = FakeNvml(**values, nvmlDeviceGetPowerManagementLimit=500_000)
    del module.values["nvmlDeviceGetCurrentClocksEventReasons"]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    with open_telemetry(order=("nvml",)) as telemetry:
        r = telemetry.read()
        assert (r.watts, r.joules, r.mode, r.throttled) == (300.0, None, "500 of 700 W", True)
        assert telemetry.throttling() == ["GPU: heat (hardware)"]


def test_others_on_the_gpu(h100: Any) -> None:
    rows = [(os.getpid(), 5, 70), (4711, 5, 20), (4711, 9, 30), (4712, 7, 10)]
    samples = [SimpleNamespace(pid=pid, timeStamp=stamp, smUtil=used) for pid, stamp, used in rows]
    everyone = [SimpleNamespace(pid=pid) for pid in (os.getpid(), 4711)]

    def others(samples: Any, known: Any) -> Any:
        fake = FakeNvml(nvmlDeviceGetProcessUtilization=samples, nvmlDeviceGetComputeRunningProcesses=known)
        return nvml_source.Nvml(fake).others(0)

    assert others(samples, everyone) == (pytest.approx(0.4), 9)  # the newest of each, not ours
    assert others(None, everyone) is others(samples, everyone[1:]) is others(samples, None) is None


def test_nvml_that_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, h100: Any) -> None:
    for module, said in ((FakeNvml(broken=1), "does not start: Driver Not Loaded"), (None, "pip install nvidia-ml-py")):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        with pytest.raises(Unavailable, match=said):
            nvml_source.open_source(Path("/"))
    with pytest.raises(Unavailable, match="another root"):
        nvml_source.open_source(tmp_path)
    monkeypatch.setattr(driver, "load", lambda: (Machine(Library(ORIN)).driver, ""))
    with pytest.raises(Unavailable, match="no discrete GPU"):
        nvml_source.open_source(Path("/"))


def test_card_and_processor_add_up(tmp_path: Path, h100: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rapl(tmp_path, package=0, dram=0)
    monkeypatch.setattr(nvml_source, "open_source", lambda root: nvml_source.Nvml(FakeNvml()))
    with open_telemetry(tmp_path) as telemetry:
        assert telemetry.name == "NVML + RAPL" and telemetry.resolution == 0.1
        assert telemetry.covers == "NVIDIA H100 + CPU package-0 + CPU dram"
        rapl(tmp_path, package=200_000, dram=50_000)
        time.sleep(0.02)
        r = telemetry.read()
        assert r.joules == pytest.approx(12.5 + 0.25) and r.watts is not None and r.watts > 300.0
        assert set(r.rails) == {"NVIDIA H100", "CPU package-0", "CPU dram"}


# --- for people -------------------------------------------------------------------------------------------------------


def test_finequery_devices_shows_sensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery.jetson.telemetry import report

    monkeypatch.setattr(report, "WATCHED", 0.0)
    text = report.report(xavier(tmp_path))
    assert "Sensors  INA3221: power; every 430 ms\n" in text
    assert "Now      9.00 W: GPU 2.00, CPU 3.00, SOC 1.00" in text and "power mode MODE_15W" in text
    assert "GPU 45% busy at 318 of 675 MHz" in text and "cpu 42 °C, gpu 40 °C" in text
    assert "Warnings the power mode is MODE_15W, not MAXN (sudo nvpmodel -m 0)" in text
    nothing = report.report(tmp_path / "nothing")
    assert "No sensor of power can be read here." in nothing and "there is no INA3221" in nothing
    assert "Now" not in nothing and "Warnings" not in nothing
