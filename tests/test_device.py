"""The probe of the machine, with a fake driver in place of libcuda."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_cuda import H100, ORIN, Library, Machine, install

from finequery import shell
from finequery.jetson import cuda, device, driver

ROOT = Path(__file__).resolve().parent.parent


def run(code: str, **environment: str) -> str:
    """What a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_orin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_memory", lambda: 40 << 30)
    library = Library(ORIN, memory=64 << 30)
    info = Machine(library).info
    assert (info.name, info.capability, info.integrated, info.multiprocessors) == ("Orin", (8, 7), True, 16)
    assert not info.concurrent_managed_access and not info.pageable_access and info.host_register
    assert (info.l2_bytes, info.driver_cuda, info.clock) == (4 << 20, (12, 6), 1_300_000_000)
    assert info.peak_bandwidth == pytest.approx(204.7e9, rel=1e-3)
    assert info.free_memory() == 40 << 30  # the system's figure, not the driver's
    text = info.describe()
    assert "integrated, compute capability 8.7" in text and "64.0 GiB, 40.0 GiB free, at most 205 GB/s" in text
    assert "mapped memory" in text and "nothing is copied" in text and "waits for running kernels" in text
    assert "context" not in library.calls


def test_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = install(monkeypatch, Library(H100, memory=80 << 30))
    text = machine.info.describe()
    assert "NVIDIA H100, discrete, compute capability 9.0" in text
    assert "132 multiprocessors at 1980 MHz, L2 cache 50.0 MiB, shared memory 48.0 KiB a block" in text
    assert (
        "80.0 GiB free" in text and "ECC" in text and "pinned buffers" in text and "Managed memory is not used" in text
    )


def test_an_old_device_is_said_to_be_too_old() -> None:
    info = Machine(Library(H100 | {75: 5, 76: 2})).info
    assert any("below 7.0: queries run on the CPU" in line for line in info.consequences())


def test_why_there_is_no_device() -> None:
    class Broken(Library):
        def cuInit(self, flags: int) -> int:
            return 100

    with pytest.raises(driver.DriverError, match="the driver sees no device"):
        driver.Driver(Library(H100, devices=0))
    with pytest.raises(driver.DriverError, match="cuInit failed: no device"):
        driver.Driver(Broken(H100))
    code = (
        "from finequery.jetson import driver\n"
        "def none(name): raise OSError(name)\n"
        "driver.ctypes.CDLL = none\n"
        "print(driver.load())"
    )
    assert run(code) == "(None, 'there is no NVIDIA driver (libcuda.so.1)')\n"


def test_errors_name_the_call() -> None:
    library = Library(H100, memory=1 << 20)
    chip = driver.Driver(library)
    with pytest.raises(driver.DeviceMemoryError, match=r"cuMemAlloc_v2 failed: out of memory \(error 2\)"):
        chip.allocate("device", 2 << 20)
    assert chip.attribute(9999) == 0 and not driver.Driver(library).started and chip.started
    assert chip.version() == (12, 6) and chip.devices == 1


def test_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEQUERY_CUDA", "off")
    assert cuda.available() == (False, "FINEQUERY_CUDA=off turns it off")
    monkeypatch.setenv("FINEQUERY_CUDA", "simulator")
    assert cuda.available()[0] and cuda.simulated()


def test_cpu_queries_import_neither_numba_nor_a_driver() -> None:
    code = (
        "import sys, finequery\n"
        "finequery.sql('select sum(a) from (values (1), (2)) t(a)').fetchall()\n"
        "print('numba' in sys.modules, 'finequery.jetson.gpu' in sys.modules)"
    )
    assert run(code) == "False False\n"


def test_simulator_must_come_before_numba() -> None:
    code = (
        "import os, numba.core.config\n"
        "os.environ['FINEQUERY_CUDA'] = 'simulator'\n"
        "from finequery.jetson import cuda\n"
        "try: cuda.cuda()\n"
        "except Exception as error: print(error.message)"
    )
    environment = {"FINEQUERY_CUDA": "", "NUMBA_ENABLE_CUDASIM": "0"}
    assert run(code, **environment) == "Numba was imported before its CUDA simulator was asked for\n"


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEQUERY_CUDA", "off")
    device.probe.cache_clear()
    try:
        assert shell.main(["devices"]) == 0
    finally:
        device.probe.cache_clear()
    out = capsys.readouterr().out
    assert out.startswith("CPU      ") and "available" in out
    assert "GPU      none: FINEQUERY_CUDA=off turns it off. Everything works on the CPU." in out


def test_processor(tmp_path: Path) -> None:
    for index, (level, kind, size) in enumerate(
        [("1", "Data", "64K"), ("1", "Instruction", "64K"), ("3", "Unified", "6144K")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(text + "\n")
    found = device.processor(str(tmp_path))
    assert found.caches == (("L1", 64 << 10), ("L3", 6 << 20)) and found.cores >= 1
    assert "L1 64.0 KiB, L3 6.0 MiB" in found.describe()
