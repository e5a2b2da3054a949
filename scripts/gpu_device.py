"""The chip as its driver describes it, for ``gpu_check.py``."""

from __future__ import annotations

import ctypes
from typing import Any

#: Numbers of CUdevice_attribute in cuda.h.
ATTRIBUTES = {"multiprocessors": 16, "integrated": 18, "l2_bytes": 38, "major": 75, "minor": 76}


def describe() -> dict[str, Any] | str:
    """Facts of the first device, or why there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1)"
    if code := cuda.cuInit(0):
        return f"the driver does not start (error {code})"
    count, version = ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    if not count.value:
        return "the driver sees no device"
    cuda.cuDriverGetVersion(ctypes.byref(version))
    name, memory, value = ctypes.create_string_buffer(256), ctypes.c_size_t(), ctypes.c_int()
    cuda.cuDeviceGetName(name, len(name), 0)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), 0)
    facts: dict[str, Any] = {"name": name.value.decode(), "memory": memory.value}
    for key, number in ATTRIBUTES.items():
        cuda.cuDeviceGetAttribute(ctypes.byref(value), number, 0)
        facts[key] = value.value
    facts["capability"] = f"{facts.pop('major')}.{facts.pop('minor')}"
    facts["driver_cuda"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return facts
