"""What the machine is: its GPU as the driver describes it, its processor, and what follows for the engine.

Asked once, when first needed. On a machine without CUDA that is one failed look-up of a library.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from finequery.jetson import cuda, driver
from finequery.jetson.accounts import readable

# Numbers of CUdevice_attribute in cuda.h
_SHARED_PER_BLOCK, _CLOCK, _SMS, _INTEGRATED, _ECC = 8, 13, 16, 18, 32
_MEMORY_CLOCK, _BUS_WIDTH, _L2, _THREADS_PER_SM, _COPY_ENGINES = 36, 37, 38, 39, 40
_MAJOR, _MINOR, _PAGEABLE, _CONCURRENT_MANAGED, _HOST_REGISTER = 75, 76, 88, 89, 99

#: The least compute capability that kernels are made for: Volta's (Jetson AGX Xavier has 7.2).
LEAST_CAPABILITY = (7, 0)


@dataclass(frozen=True)
class Info:
    """A device. Bytes, and clocks in Hz; 0 where the driver does not say."""

    name: str
    capability: tuple[int, int]
    integrated: bool  # shares the main memory with the processor
    concurrent_managed_access: bool  # the CPU may touch managed memory while kernels run
    pageable_access: bool  # kernels may read any host memory
    host_register: bool
    multiprocessors: int
    threads_per_multiprocessor: int
    l2_bytes: int
    shared_bytes: int  # of a block, without opting in
    total_memory: int
    driver_cuda: tuple[int, int]  # the newest CUDA that the driver supports
    clock: int = 0
    memory_clock: int = 0
    bus_bits: int = 0
    ecc: bool = False
    copy_engines: int = 0
    board: str = ""  # of an integrated device, as its firmware calls it
    simulated: bool = False

    @property
    def peak_bandwidth(self) -> float:
        """Bytes a second that the memory's pins can carry: two transfers a clock over the bus; 0 if not known."""
        return 2.0 * self.memory_clock * self.bus_bits / 8

    def free_memory(self) -> int:
        """Bytes that can be allocated now. On an integrated device the driver's figure leaves out what the system
        could reclaim, so the system is asked."""
        if self.integrated:
            return available_memory()
        found, _ = driver.load()
        return found.free_memory() if found else 0

    def describe(self) -> str:
        """The device, and what follows from it, for people."""
        if self.simulated:
            return "GPU      simulated on the CPU, thread by thread: for tests of kernels, never for speed"
        major, minor = self.capability
        kind = "integrated" if self.integrated else "discrete"
        lines = [
            f"GPU      {self.name}, {kind}, compute capability {major}.{minor}",
            f"         {self.multiprocessors} multiprocessors{_clock(self.clock)}, L2 cache {readable(self.l2_bytes)}, "
            f"shared memory {readable(self.shared_bytes)} a block",
        ]
        if self.board:
            lines.insert(1, f"         board: {self.board}")
        bandwidth = f", at most {self.peak_bandwidth / 1e9:.0f} GB/s" if self.peak_bandwidth else ""
        ecc = ", ECC" if self.ecc else ""
        lines.append(f"Memory   {readable(self.total_memory)}, {readable(self.free_memory())} free{bandwidth}{ecc}")
        lines.append("CUDA     driver supports up to {}.{}".format(*self.driver_cuda))
        lines += ["", *self.consequences()]
        return "\n".join(lines)

    def consequences(self) -> list[str]:
        """Which memory holds what on this device, and why."""
        if self.integrated:
            lines = [
                "CPU and GPU share the memory. Columns, groups and results lie in mapped memory, which both reach: "
                "nothing is copied.",
                "What the GPU alone works with lies in device memory, because only that goes through the GPU's cache.",
            ]
            if self.concurrent_managed_access:
                lines.append("Look-up tables lie in managed memory: cached on both sides, usable at any time.")
            else:
                lines.append(
                    "Look-up tables lie in mapped memory as well. Managed memory would be cached on both sides, but "
                    "here the CPU must not touch it while any kernel runs (no concurrent managed access)."
                )
            lines.append("Free memory is what the system calls available; the driver's own figure is too low here.")
            lines.append("With SET device = 'cpu' a connection uses ordinary memory and never starts the GPU.")
        else:
            lines = [
                "The GPU has memory of its own. Columns are copied to it through pinned buffers when a query first "
                "reads them there, and stay for later queries: up to 70% of what was free (SET gpu_memory_limit = '…' "
                "for another limit), then those used longest ago go. What a pipeline writes stays for the next one.",
                "Managed memory is not used: it would be moved page by page.",
            ]
        if self.capability < LEAST_CAPABILITY:
            lines.append("Its compute capability is below {}.{}: queries run on the CPU.".format(*LEAST_CAPABILITY))
        return lines


def _clock(hertz: int) -> str:
    return f" at {hertz / 1e6:.0f} MHz" if hertz else ""


SIMULATED = Info(
    name="Numba's simulator",
    capability=(7, 2),
    integrated=True,
    concurrent_managed_access=True,
    pageable_access=True,
    host_register=False,
    multiprocessors=1,
    threads_per_multiprocessor=32,
    l2_bytes=0,
    shared_bytes=48 << 10,
    total_memory=0,
    driver_cuda=(0, 0),
    simulated=True,
)


@functools.cache
def probe() -> Info | None:
    """The device that queries may use; None without one (``cuda.available`` says why). Creates no context."""
    usable, _ = cuda.available()
    if not usable:
        return None
    if cuda.simulated():
        return SIMULATED
    found, _ = driver.load()
    return None if found is None else describe_device(found)


def describe_device(found: driver.Driver) -> Info:
    """The facts of a driver's device."""
    ask = found.attribute
    integrated = bool(ask(_INTEGRATED))
    return Info(
        name=found.name(),
        capability=(ask(_MAJOR), ask(_MINOR)),
        integrated=integrated,
        concurrent_managed_access=bool(ask(_CONCURRENT_MANAGED)),
        pageable_access=bool(ask(_PAGEABLE)),
        host_register=bool(ask(_HOST_REGISTER)),
        multiprocessors=ask(_SMS),
        threads_per_multiprocessor=ask(_THREADS_PER_SM),
        l2_bytes=ask(_L2),
        shared_bytes=ask(_SHARED_PER_BLOCK),
        total_memory=found.total_memory(),
        driver_cuda=found.version(),
        clock=ask(_CLOCK) * 1000,
        memory_clock=ask(_MEMORY_CLOCK) * 1000,
        bus_bits=ask(_BUS_WIDTH),
        ecc=bool(ask(_ECC)),
        copy_engines=ask(_COPY_ENGINES),
        board=_read("/proc/device-tree/model").strip("\0\n ") if integrated else "",
    )


@dataclass(frozen=True)
class Processor:
    """The CPU. Cache sizes in bytes by level, 0 where the system does not say."""

    name: str
    cores: int
    caches: tuple[tuple[str, int], ...]
    memory: int

    def describe(self) -> str:
        """One or two lines for people."""
        caches = ", ".join(f"{level} {readable(size)}" for level, size in self.caches)
        return (
            f"CPU      {self.name}, {self.cores} core{'' if self.cores == 1 else 's'} for queries"
            + (f"\n         caches: {caches}" if caches else "")
            + f"\nMemory   {readable(self.memory)}, {readable(available_memory())} available"
        )


def processor(root: str = "/sys/devices/system/cpu/cpu0/cache") -> Processor:
    """The CPU that queries run on."""
    name = ""
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            name = value.strip()
            break
    caches = []
    for index in range(8):
        kind, level, size = (_read(f"{root}/index{index}/{part}").strip() for part in ("type", "level", "size"))
        if level and kind != "Instruction" and size.endswith("K"):
            caches.append((f"L{level}", int(size[:-1]) << 10))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Processor(name or os.uname().machine, cores, tuple(caches), _meminfo("MemTotal"))


def available_memory() -> int:
    """Bytes of main memory that could be allocated without swapping."""
    return _meminfo("MemAvailable")


def _meminfo(name: str, path: str = "/proc/meminfo") -> int:
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) << 10
    return 0


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def report() -> str:
    """What ``finequery devices`` prints."""
    from finequery.jetson.telemetry.report import report as sensors

    info = probe()
    if info is None:
        gpu = f"GPU      none: {cuda.available()[1]}. Everything works on the CPU."
    else:
        gpu = info.describe()
    return f"{processor().describe()}\n\n{gpu}\n\n{sensors()}"
