"""The CUDA driver library through ctypes: finding a device, and memory, copies, streams and events on it.

Kernels are Numba's business (``cuda.py``); memory is not: its mapped and managed arrays lose their device address when
they are sliced, and it has no asynchronous fill. The driver's own functions are the same on every CUDA version from 11
on, and asking them for a device costs nothing where there is none. Addresses, streams and events are integers.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from ctypes import POINTER, byref, c_char, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from typing import Any

from finequery.errors import OperationalError

_address = POINTER(c_uint64)
_handle = POINTER(c_void_p)

#: What is called, and with what. CUdeviceptr is a 64-bit integer, streams, events and contexts are pointers.
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorString": (c_int, POINTER(ctypes.c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (POINTER(c_char), c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDevicePrimaryCtxRetain": (_handle, c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (_address, c_size_t),
    "cuMemAllocManaged": (_address, c_size_t, c_uint),
    "cuMemHostAlloc": (_handle, c_size_t, c_uint),
    "cuMemHostGetDevicePointer_v2": (_address, c_void_p, c_uint),
    "cuMemFree_v2": (c_uint64,),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuMemsetD8Async": (c_uint64, c_ubyte, c_size_t, c_void_p),
    "cuPointerGetAttribute": (c_void_p, c_int, c_uint64),
    "cuStreamCreate": (_handle, c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cuEventCreate": (_handle, c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
}

_OUT_OF_MEMORY = 2
_HOST_ALLOC_MAPPED = 0x02
_ATTACH_GLOBAL = 0x01
_STREAM_NON_BLOCKING = 0x01
_EVENT_NO_TIMING = 0x02
_POINTER_HOST, _POINTER_MANAGED = 4, 8  # CUpointer_attribute


class DriverError(OperationalError):
    """The driver refused a call."""

    def __init__(self, function: str, code: int, text: str) -> None:
        super().__init__(f"CUDA: {function} failed: {text} (error {code})")
        self.code = code


class DeviceMemoryError(DriverError):
    """There is not enough memory for the call."""


class Driver:
    """One device of the driver library. Raises OSError without the library, DriverError without a device."""

    def __init__(self, library: Any = None, ordinal: int = 0) -> None:
        self._library = library or ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        for name, arguments in _SIGNATURES.items():
            if isinstance(self._library, ctypes.CDLL):
                function = getattr(self._library, name)
                function.argtypes, function.restype = arguments, c_int
        self._context: c_void_p | None = None
        self._call("cuInit", 0)
        self.devices = self._integer("cuDeviceGetCount")
        if not self.devices:
            raise DriverError("cuDeviceGetCount", 100, "the driver sees no device")
        self._device = self._integer("cuDeviceGet", ordinal)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(code, byref(text))
            kind = DeviceMemoryError if code == _OUT_OF_MEMORY else DriverError
            raise kind(name, code, (text.value or b"unknown error").decode())

    def _integer(self, name: str, *arguments: Any) -> int:
        value = c_int()
        self._call(name, byref(value), *arguments)
        return value.value

    # Facts: these need no context

    def version(self) -> tuple[int, int]:
        """The newest CUDA that the driver supports."""
        number = self._integer("cuDriverGetVersion")
        return number // 1000, number % 1000 // 10

    def name(self) -> str:
        """The device's name."""
        buffer = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", buffer, len(buffer), self._device)
        return buffer.value.decode()

    def attribute(self, number: int) -> int:
        """An attribute by its number in cuda.h; 0 where the driver does not know it."""
        try:
            return self._integer("cuDeviceGetAttribute", number, self._device)
        except DriverError:
            return 0

    def total_memory(self) -> int:
        """Bytes of the device's memory."""
        value = c_size_t()
        self._call("cuDeviceTotalMem_v2", byref(value), self._device)
        return value.value

    # What follows needs the context: the one that Numba uses too

    def use(self) -> None:
        """Make the device's primary context that of the calling thread. The first call creates it (0.1 to 4 s)."""
        if self._context is None:
            context = c_void_p()
            self._call("cuDevicePrimaryCtxRetain", byref(context), self._device)
            self._context = context
        self._call("cuCtxSetCurrent", self._context)

    @property
    def started(self) -> bool:
        """Whether there is a context."""
        return self._context is not None

    def free_memory(self) -> int:
        """Bytes that the driver calls free. Wrong on integrated devices: see ``device.Info.free_memory``."""
        self.use()
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    def allocate(self, kind: str, nbytes: int) -> tuple[int, int]:
        """New memory of a kind: its address for the host (0: none) and for the device."""
        self.use()
        device = c_uint64()
        if kind == "device":
            self._call("cuMemAlloc_v2", byref(device), nbytes)
            return 0, device.value
        if kind == "managed":
            self._call("cuMemAllocManaged", byref(device), nbytes, _ATTACH_GLOBAL)
            return device.value, device.value
        assert kind == "mapped", kind
        host = c_void_p()
        self._call("cuMemHostAlloc", byref(host), nbytes, _HOST_ALLOC_MAPPED)
        self._call("cuMemHostGetDevicePointer_v2", byref(device), host, 0)
        return host.value or 0, device.value

    def host_address(self, device: int) -> int | None:
        """The host's address of memory that a device has at another; None where the host does not reach it."""
        found = c_void_p()
        try:
            self._call("cuPointerGetAttribute", byref(found), _POINTER_HOST, device)
        except DriverError:
            return None
        return found.value or None

    def managed(self, device: int) -> bool:
        """Whether the memory at a device's address is managed."""
        found = c_uint()
        try:
            self._call("cuPointerGetAttribute", byref(found), _POINTER_MANAGED, device)
        except DriverError:
            return False
        return bool(found.value)

    def free(self, kind: str, host: int, device: int) -> None:
        """Give memory back. Waits for what the device is doing."""
        self.use()
        if kind == "mapped":
            self._call("cuMemFreeHost", host)
        else:
            self._call("cuMemFree_v2", device)

    def copy_in(self, device: int, host: int, nbytes: int, stream: int) -> None:
        """Host to device, in the stream's order. Asynchronous where the host's memory is pinned."""
        self._call("cuMemcpyHtoDAsync_v2", device, host, nbytes, stream)

    def copy_out(self, host: int, device: int, nbytes: int, stream: int) -> None:
        """Device to host, in the stream's order."""
        self._call("cuMemcpyDtoHAsync_v2", host, device, nbytes, stream)

    def fill(self, device: int, byte: int, nbytes: int, stream: int) -> None:
        """Set all bytes, in the stream's order."""
        self._call("cuMemsetD8Async", device, byte, nbytes, stream)

    def stream(self, *, independent: bool = False) -> int:
        """A new stream. ``independent``: not ordered with the work of the default stream."""
        handle = c_void_p()
        self._call("cuStreamCreate", byref(handle), _STREAM_NON_BLOCKING if independent else 0)
        return handle.value or 0

    def event(self) -> int:
        """A new event."""
        handle = c_void_p()
        self._call("cuEventCreate", byref(handle), _EVENT_NO_TIMING)
        return handle.value or 0

    def record(self, event: int, stream: int) -> None:
        """The event happens when the stream's work so far is done."""
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        """Later work of the stream waits for the event, the caller does not."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def finish_event(self, event: int) -> None:
        """Wait for an event; at once where it was never recorded."""
        self._call("cuEventSynchronize", event)

    def finish(self, stream: int) -> None:
        """Wait for all work of a stream."""
        self._call("cuStreamSynchronize", stream)


@functools.cache
def load() -> tuple[Driver | None, str]:
    """The first device's driver, or None and why."""
    try:
        return Driver(), ""
    except OSError:
        return None, "there is no NVIDIA driver (libcuda.so.1)"
    except AttributeError as error:
        return None, f"the NVIDIA driver is too old ({error})"
    except DriverError as error:
        return None, f"the NVIDIA driver finds no usable device ({error.message.removeprefix('CUDA: ')})"
