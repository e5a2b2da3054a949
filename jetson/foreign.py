"""Arrays of other libraries, such as CuPy, PyTorch and JAX.

Where the host reaches the memory it is looked at as it is; what lies in a device's memory is copied to the host where
the host asks, and counted. Kernels read it where it lies.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.errors import NotSupportedError
from finequery.jetson import dlpack, memory

_LEGACY_STREAM = 1  # the number of CUDA's default stream, for DLPack and for the driver


def is_array(value: Any) -> bool:
    """Whether a foreign object is an array that ``array_of`` can read."""
    if isinstance(value, (np.ndarray, np.generic)) or type(value).__module__.partition(".")[0] == "pyarrow":
        return False
    return hasattr(value, "__cuda_array_interface__") or hasattr(value, "__dlpack__")


def lies_on_device(value: Any) -> bool:
    """Whether a foreign array is in a CUDA device's memory."""
    if not is_array(value):
        return False
    return hasattr(value, "__cuda_array_interface__") or int(value.__dlpack_device__()[0]) == dlpack.CUDA


class _Owner:
    """What keeps a foreign array's memory."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass(frozen=True)
class DeviceArray:
    """A one-dimensional array in a CUDA device's memory: its address there, values, and bytes from one to the next.
    ``stream``: whose work must be done before it is read (None: none)."""

    address: int
    count: int
    stride: int
    dtype: np.dtype[Any]
    stream: int | None
    owner: object

    @property
    def contiguous(self) -> bool:
        """Whether kernels can take it as it is."""
        size = self.dtype.itemsize
        return self.stride == size and self.address % size == 0 and self.dtype.isnative

    def host(self) -> np.ndarray:
        """The values on the host: the same bytes where the host reaches them at any time, else a copy."""
        from finequery.jetson import gpu

        device = gpu.open_device()
        if not self.count:
            return memory.array(0, self.dtype)
        span = (self.count - 1) * abs(self.stride) + self.dtype.itemsize
        first = self.address if self.stride >= 0 else self.address - (self.count - 1) * -self.stride
        raw = device.download(first, span, self.stream)
        start = 0 if self.stride >= 0 else span - self.dtype.itemsize
        if self.contiguous:  # the block's own view, so that the block is found from it
            return raw.view(self.dtype)
        return np.ndarray((self.count,), self.dtype, raw, start, (self.stride,))

    def adopt(self, array: np.ndarray) -> None:
        """Let kernels read this where they would read ``array``, which has the same values."""
        from finequery.jetson import gpu

        if self.contiguous and self.count:
            device = gpu.open_device()
            device.adopt(array, device.foreign(self.address, self.count, self.dtype, self.owner))


def array_of(value: Any) -> DeviceArray | np.ndarray:
    """A foreign one-dimensional array: on a device, or a numpy view of it."""
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        return _of_interface(interface, value)
    device_type = int(value.__dlpack_device__()[0])
    if device_type in (dlpack.CPU, dlpack.CUDA_HOST, dlpack.MANAGED):
        array: np.ndarray = np.from_dlpack(value)
        _one_dimension(array.shape)
        return array
    if device_type != dlpack.CUDA:
        raise NotSupportedError(f"an array on a device of DLPack's type {device_type} can't be read")
    try:
        capsule = value.__dlpack__(stream=_LEGACY_STREAM, max_version=(1, 0))
    except TypeError:  # of before version 1
        capsule = value.__dlpack__(stream=_LEGACY_STREAM)
    try:
        foreign = dlpack.consume(capsule)
    except ValueError as error:
        raise NotSupportedError(f"An array of another library: {error}") from None
    owner = _Owner(value)
    weakref.finalize(owner, foreign.release)
    _require_device()
    stride = foreign.stride * foreign.dtype.itemsize
    return DeviceArray(foreign.address, foreign.count, stride, foreign.dtype, _LEGACY_STREAM, owner)


def host_array(value: Any) -> np.ndarray:
    """The values of a foreign one-dimensional array."""
    found = array_of(value)
    return found.host() if isinstance(found, DeviceArray) else found


def _of_interface(interface: dict[str, Any], value: Any) -> DeviceArray:
    if interface.get("mask") is not None:
        raise NotSupportedError(
            "an array with a mask in its __cuda_array_interface__ can't be read",
            hint="Pass the values and the mask as two columns.",
        )
    dtype = np.dtype(interface["typestr"])
    shape, strides = interface["shape"], interface.get("strides")
    _one_dimension(shape)
    _require_device()
    stride = strides[0] if strides else dtype.itemsize
    return DeviceArray(interface["data"][0], shape[0], stride, dtype, interface.get("stream"), _Owner(value))


def _require_device() -> None:
    from finequery.jetson import gpu

    gpu.open_device()


def _one_dimension(shape: tuple[int, ...]) -> None:
    if len(shape) != 1:
        raise NotSupportedError(f"A column must have one dimension, not {len(shape)}")
