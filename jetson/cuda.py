"""The one place that imports Numba's CUDA: the built-in one, or numba-cuda where that is installed (it takes the name
``numba.cuda`` over), or the simulator.

The environment variable FINEQUERY_CUDA chooses: ``simulator`` runs kernels in Numba's simulator, ``off`` uses no
device.
Nothing here imports Numba before ``cuda()`` is called, and nobody calls that for a query that runs on the CPU.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from typing import Any

import numpy as np

from finequery.errors import OperationalError
from finequery.jetson import driver

_SWITCH = "FINEQUERY_CUDA"


def simulated() -> bool:
    """Whether kernels run in Numba's simulator."""
    return os.environ.get(_SWITCH) == "simulator" or os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def available() -> tuple[bool, str]:
    """Whether kernels can run, on a device or in the simulator; if not, why. Does not import Numba."""
    if os.environ.get(_SWITCH) == "off":
        return False, f"{_SWITCH}=off turns it off"
    if simulated():
        return True, "the simulator of Numba"
    found, reason = driver.load()
    return found is not None, reason


@functools.cache
def cuda() -> Any:
    """The module ``numba.cuda``, for kernels (``cuda.jit``, ``cuda.grid``, ``cuda.atomic``, ``cuda.shared``, …).

    A kernel must find it among its globals, not in a closure: that is where the simulator puts its own in its place.
    """
    if simulated():
        if "numba.core.config" in sys.modules and not sys.modules["numba.core.config"].ENABLE_CUDASIM:
            raise OperationalError(
                "Numba was imported before its CUDA simulator was asked for",
                hint=f"Set {_SWITCH}=simulator in the environment before Python starts.",
            )
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    from numba import cuda

    if simulated():
        _share_arrays()
    return cuda


def _share_arrays() -> None:
    """Have a block's threads get one shared array. The simulator looks for it and makes it without a lock, so that two
    threads that come to it at once would get one each."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    make, lock = FakeCUDAShared.array, threading.Lock()

    def array(self: Any, shape: Any, dtype: Any) -> Any:
        if shape == 0:  # dynamic shared memory, which is there
            return make(self, shape, dtype)
        caller = sys._getframe(1)
        key = caller.f_code.co_filename, caller.f_lineno
        with lock:
            if key not in self._allocations:
                self._allocations[key] = np.empty(shape, np.dtype(dtype))
            return self._allocations[key]

    FakeCUDAShared.array = array


def implementation() -> str:
    """Which CUDA target of Numba is in use, for messages and cache keys."""
    from importlib.metadata import version

    numba = f"numba {version('numba')}"
    if simulated():
        return f"simulator of {numba}"
    if "numba_cuda" in (cuda().__file__ or ""):
        return f"{numba}, numba-cuda {version('numba-cuda')}"
    return f"{numba}, built-in CUDA"


def argument(address: int, count: int, dtype: Any, owner: object) -> Any:
    """A kernel argument over memory of the device: one-dimensional, contiguous. It keeps ``owner`` alive."""
    interface = {
        "shape": (count,),
        "strides": None,
        "typestr": np.dtype(dtype).str,
        "data": (address if count else 0, False),
        "version": 3,
    }
    return cuda().from_cuda_array_interface(interface, owner=owner, sync=False)


def address_of(array: Any) -> int:
    """The device's address of anything with ``__cuda_array_interface__``."""
    return array.__cuda_array_interface__["data"][0]


def stream(handle: int) -> Any:
    """A stream of the driver as kernels are launched on it."""
    return cuda().external_stream(handle)
