"""A stand-in for the CUDA driver library and a device: its memory is the host's, copies are recorded."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np

from finequery.jetson import device, gpu
from finequery.jetson.driver import Driver

ORIN = {8: 49152, 13: 1300000, 16: 16, 18: 1, 36: 3199000, 37: 256, 38: 4 << 20, 39: 1536, 40: 2, 75: 8, 76: 7, 99: 1}
H100 = {8: 49152, 13: 1980000, 16: 132, 18: 0, 32: 1, 36: 2619000, 37: 5120, 38: 50 << 20, 39: 2048, 40: 3}
H100 |= {75: 9, 76: 0, 88: 0, 89: 1, 99: 1}


class Library:
    """The functions of libcuda that the engine calls, with their C arguments. Work is done at once, except that a
    ``late`` copy in is done when somebody waits for it: what is written before then was written too early."""

    def __init__(self, attributes: dict[int, int], memory: int = 1 << 30, devices: int = 1, late: bool = False) -> None:
        self.attributes, self.memory, self.devices = attributes, memory, devices
        self.calls: list[str] = []
        self.copies: list[tuple[str, int]] = []
        self.allocations: dict[int, tuple[str, np.ndarray]] = {}
        self.late = late
        self._pending: list[tuple[int, int, int]] = []
        self._handles = 0

    @property
    def used(self) -> int:
        return sum(block.nbytes for _, block in self.allocations.values())

    def _handle(self, where: Any) -> int:
        self._handles += 1
        where._obj.value = self._handles
        return 0

    def _allocate(self, kind: str, where: Any, nbytes: int) -> int:
        self.calls.append(f"allocate {kind}")
        if self.used + nbytes > self.memory:
            return 2
        block = np.full(nbytes + 256, 0xA5, np.uint8)
        block = block[-block.ctypes.data % 256 :][:nbytes]
        self.allocations[block.ctypes.data] = (kind, block)
        where._obj.value = block.ctypes.data
        return 0

    def finish(self) -> int:
        for target, source, nbytes in self._pending:
            ctypes.memmove(target, source, nbytes)
        self._pending.clear()
        return 0

    def cuInit(self, flags: int) -> int:
        return 0

    def cuGetErrorString(self, code: int, where: Any) -> int:
        where._obj.value = {2: b"out of memory", 100: b"no device"}.get(code, b"failure")
        return 0

    def cuDriverGetVersion(self, where: Any) -> int:
        where._obj.value = 12060
        return 0

    def cuDeviceGetCount(self, where: Any) -> int:
        where._obj.value = self.devices
        return 0

    def cuDeviceGet(self, where: Any, ordinal: int) -> int:
        where._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, buffer: Any, size: int, number: int) -> int:
        buffer.value = b"Orin" if self.attributes.get(18) else b"NVIDIA H100"
        return 0

    def cuDeviceGetAttribute(self, where: Any, attribute: int, number: int) -> int:
        if attribute not in self.attributes:
            return 1
        where._obj.value = self.attributes[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, where: Any, number: int) -> int:
        where._obj.value = self.memory
        return 0

    def cuDevicePrimaryCtxRetain(self, where: Any, number: int) -> int:
        self.calls.append("context")
        return self._handle(where)

    def cuCtxSetCurrent(self, context: Any) -> int:
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = self.memory - self.used, self.memory
        return 0

    def cuMemAlloc_v2(self, where: Any, nbytes: int) -> int:
        return self._allocate("device", where, nbytes)

    def cuMemAllocManaged(self, where: Any, nbytes: int, flags: int) -> int:
        assert flags == 1
        return self._allocate("managed", where, nbytes)

    def cuMemHostAlloc(self, where: Any, nbytes: int, flags: int) -> int:
        assert flags == 2
        return self._allocate("mapped", where, nbytes)

    def cuMemHostGetDevicePointer_v2(self, where: Any, host: Any, flags: int) -> int:
        where._obj.value = host.value
        return 0

    def cuPointerGetAttribute(self, where: Any, attribute: int, address: int) -> int:
        for start, (kind, block) in self.allocations.items():
            if start <= address < start + block.nbytes:
                if attribute == 8:
                    where._obj.value = int(kind == "managed")
                    return 0
                if attribute == 4 and kind != "device":
                    where._obj.value = address
                    return 0
        return 1

    def cuMemFree_v2(self, address: int) -> int:
        self.finish()
        del self.allocations[address]
        return 0

    cuMemFreeHost = cuMemFree_v2

    def cuMemcpyHtoDAsync_v2(self, target: int, source: int, nbytes: int, stream: int) -> int:
        self.copies.append(("to device", nbytes))
        self._pending.append((target, source, nbytes))
        return 0 if self.late else self.finish()

    def cuMemcpyDtoHAsync_v2(self, target: int, source: int, nbytes: int, stream: int) -> int:
        self.finish()
        self.copies.append(("to host", nbytes))
        ctypes.memmove(target, source, nbytes)
        return 0

    def cuMemsetD8Async(self, address: int, byte: int, nbytes: int, stream: int) -> int:
        ctypes.memset(address, byte, nbytes)
        return 0

    def cuStreamCreate(self, where: Any, flags: int) -> int:
        return self._handle(where)

    def cuEventCreate(self, where: Any, flags: int) -> int:
        return self._handle(where)

    def cuEventRecord(self, event: int, stream: int) -> int:
        return 0

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> int:
        self.calls.append(f"stream {stream} waits")
        return 0

    def cuEventSynchronize(self, event: int) -> int:
        return self.finish()

    def cuStreamSynchronize(self, stream: int) -> int:
        return self.finish()


def argument(address: int, count: int, dtype: Any, owner: object) -> np.ndarray:
    """What stands for a device array: a view of the fake device's memory that keeps its owner."""
    raw = (ctypes.c_uint8 * max(count * np.dtype(dtype).itemsize, 1)).from_address(address)
    raw.owner = owner  # type: ignore[attr-defined]
    return np.frombuffer(raw, np.uint8)[: count * np.dtype(dtype).itemsize].view(dtype)


def address_of(array: np.ndarray) -> int:
    return array.ctypes.data


class Machine:
    """A machine with a fake device: the driver, what the probe says, and the device."""

    def __init__(self, library: Library, limit: int | None = None) -> None:
        self.library = library
        self.driver = Driver(library)
        self.info = device.describe_device(self.driver)
        self.limit = limit

    def open(self) -> gpu.CudaDevice:
        return gpu.CudaDevice(self.info, self.driver, argument, address_of, self.limit)


def install(monkeypatch: Any, library: Library, limit: int | None = None) -> Machine:
    """Put a fake device in the place of the machine's own for one test."""
    from finequery.jetson import accounts, driver, memory
    from finequery.operators import tabulate

    gc.collect()  # what earlier tests left is not counted in this one
    machine = Machine(library, limit)
    for name in ("FINEQUERY_CUDA", "NUMBA_ENABLE_CUDASIM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(driver, "load", lambda: (machine.driver, ""))
    monkeypatch.setattr(device, "probe", lambda: machine.info)
    monkeypatch.setattr(memory, "_slabs", {})
    monkeypatch.setattr(tabulate, "_ranges", {})  # what lies in the fake device's memory ends with it
    monkeypatch.setitem(accounts._in_main, "device", False)
    return machine


class Simulated(gpu.CudaDevice):
    """A fake device whose kernels run in Numba's simulator, over the fake device's memory."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.info, machine.driver, argument, address_of, machine.limit)
        self._library = machine.library

    @property
    def stream(self) -> int:  # type: ignore[override]
        self._library.finish()  # copies that were ordered before the kernel
        return 0

    def launch_shape(self, rows: int) -> tuple[int, int]:
        return (2 if rows > 32 else 1), 32
