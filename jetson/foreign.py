"""Arrays of other libraries, such as CuPy, PyTorch and JAX, as numpy arrays on the host.

Where the host reaches the memory it is looked at as it is; what lies in a device's memory is copied, and counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from finequery.errors import NotSupportedError
from finequery.jetson import dlpack

_LEGACY_STREAM = 1  # the number of CUDA's default stream, for DLPack and for the driver


def is_array(value: Any) -> bool:
    """Whether a foreign object is an array that ``host_array`` can read."""
    if isinstance(value, (np.ndarray, np.generic)) or type(value).__module__.partition(".")[0] == "pyarrow":
        return False
    return hasattr(value, "__cuda_array_interface__") or hasattr(value, "__dlpack__")


def host_array(value: Any) -> np.ndarray:
    """The values of a foreign one-dimensional array."""
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        return _of_interface(interface)
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
    try:
        stride = foreign.stride * foreign.dtype.itemsize
        return _download(foreign.address, foreign.count, stride, foreign.dtype, _LEGACY_STREAM)
    finally:
        foreign.release()


def _of_interface(interface: dict[str, Any]) -> np.ndarray:
    if interface.get("mask") is not None:
        raise NotSupportedError(
            "an array with a mask in its __cuda_array_interface__ can't be read",
            hint="Pass the values and the mask as two columns.",
        )
    dtype = np.dtype(interface["typestr"])
    shape, strides = interface["shape"], interface.get("strides")
    _one_dimension(shape)
    return _download(
        interface["data"][0], shape[0], strides[0] if strides else dtype.itemsize, dtype, interface.get("stream")
    )


def _one_dimension(shape: tuple[int, ...]) -> None:
    if len(shape) != 1:
        raise NotSupportedError(f"A column must have one dimension, not {len(shape)}")


def _download(address: int, count: int, stride: int, dtype: np.dtype[Any], stream: int | None) -> np.ndarray:
    """Values in a device's memory, once the work of ``stream`` is done (None: nothing to wait for)."""
    from finequery.jetson import gpu

    device = gpu.open_device()
    if not count:
        return np.empty(0, dtype)
    span = (count - 1) * abs(stride) + dtype.itemsize
    first = address if stride >= 0 else address - (count - 1) * -stride
    raw = device.download(first, span, stream)
    start = 0 if stride >= 0 else span - dtype.itemsize
    return np.ndarray((count,), dtype, raw, start, (stride,))
