"""The probe of the machine, with a fake driver in place of libcuda."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
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
    assert "share the memory" in text and "nothing is copied" in text and "while any kernel runs" in text
    thor = Machine(Library(ORIN | {89: 1})).info
    assert any("managed memory: cached on both sides, usable at any time" in line for line in thor.consequences())
    assert "context" not in library.calls


def test_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = install(monkeypatch, Library(H100, memory=80 << 30))
    text = machine.info.describe()
    assert "NVIDIA H100, discrete, compute capability 9.0" in text
    assert "132 multiprocessors at 1980 MHz, L2 cache 50.0 MiB, shared memory 48.0 KiB a block" in text
    assert (
        "80.0 GiB free" in text
        and "ECC" in text
        and "pinned buffers" in text
        and "Managed memory is not used" in text
        and "gpu_memory_limit" in text
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


STUB = r"""
#include <stdlib.h>
#include <string.h>
typedef unsigned long long ptr;
typedef void *h;
static int value(void *where, unsigned long long x) { *(ptr *)where = x; return 0; }
int cuInit(unsigned f) { return f; }
int cuDriverGetVersion(int *v) { *v = 11040; return 0; }
int cuGetErrorString(int e, const char **s) { *s = e == 2 ? "out of memory" : "failure"; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int i) { *d = 40 + i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, d == 40 ? "Xavier" : "wrong", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 7 : a == 76 ? 2 : a == 18; return d != 40; }
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = 32ULL << 30; return d != 40; }
int cuDevicePrimaryCtxRetain(h *c, int d) { return value(c, 0x700000000001ULL); }
int cuCtxSetCurrent(h c) { return c != (h)0x700000000001ULL; }
int cuMemGetInfo_v2(size_t *f, size_t *t) { *f = 5ULL << 32; *t = 8ULL << 32; return 0; }
static int get(void *p, size_t n) { return n > 1ULL << 32 ? 2 : value(p, (ptr)aligned_alloc(256, n)); }
int cuMemAlloc_v2(ptr *p, size_t n) { return get(p, n); }
int cuMemAllocManaged(ptr *p, size_t n, unsigned f) { return f == 1 ? get(p, n) : 1; }
int cuMemHostAlloc(h *p, size_t n, unsigned f) { return f == 2 ? get(p, n) : 1; }
int cuMemHostGetDevicePointer_v2(ptr *p, h a, unsigned f) { return value(p, (ptr)a); }
int cuMemFree_v2(ptr p) { free((h)p); return 0; }
int cuMemFreeHost(h p) { free(p); return 0; }
int cuMemcpyHtoDAsync_v2(ptr d, const void *s, size_t n, h q) { memcpy((h)d, s, n); return q != (h)0x500000000000ULL; }
int cuMemcpyDtoHAsync_v2(void *d, ptr s, size_t n, h q) { memcpy(d, (h)s, n); return q != (h)0x500000000000ULL; }
int cuMemsetD8Async(ptr d, unsigned char c, size_t n, h q) { memset((h)d, c, n); return 0; }
int cuStreamCreate(h *q, unsigned f) { return value(q, 0x500000000000ULL + f); }
int cuStreamSynchronize(h q) { return 0; }
int cuPointerGetAttribute(h v, int a, ptr p) {
  if (p < 4096) return 1;
  if (a == 4) return value(v, p);
  *(unsigned *)v = a == 8;
  return 0;
}
int cuStreamWaitEvent(h q, h e, unsigned f) { return e != (h)0x600000000002ULL; }
int cuEventCreate(h *e, unsigned f) { return value(e, 0x600000000000ULL + f); }
int cuEventRecord(h e, h q) { return e != (h)0x600000000002ULL; }
int cuEventSynchronize(h e) { return e != (h)0x600000000002ULL; }
"""


def test_calls_fit_the_c_interface(tmp_path: Path) -> None:
    """Through ctypes, into a library with the signatures of cuda.h."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "stub.c").write_text(STUB)
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "stub.c"], check=True)
    chip = driver.Driver(ctypes.CDLL(str(library)))
    assert (chip.name(), chip.version(), chip.total_memory()) == ("Xavier", (11, 4), 32 << 30)
    assert device.describe_device(chip).capability == (7, 2) and chip.free_memory() == 5 << 32
    stream, event = chip.stream(), chip.event()
    assert chip.stream(independent=True) == stream + 1
    source, target = np.arange(1000, dtype=np.uint8), np.zeros(1000, np.uint8)
    for kind in ("device", "managed", "mapped"):
        host, address = chip.allocate(kind, 4096)
        assert address and host == (0 if kind == "device" else address)
        chip.fill(address, 7, 1000, stream)
        chip.copy_in(address + 10, source.ctypes.data, 500, stream)
        chip.record(event, stream)
        chip.wait(stream, event)
        chip.finish_event(event)
        chip.copy_out(target.ctypes.data, address, 1000, stream)
        chip.finish(stream)
        assert (target[:10] == 7).all() and (target[10:510] == source[:500]).all() and (target[510:] == 7).all()
        chip.free(kind, host, address)
    assert chip.host_address(1 << 40) == 1 << 40 and chip.managed(1 << 40)
    assert chip.host_address(1) is None and not chip.managed(1)
    with pytest.raises(driver.DeviceMemoryError, match="out of memory"):
        chip.allocate("device", 1 << 33)


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
