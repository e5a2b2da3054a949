"""Columns of a result for array libraries: CuPy, PyTorch, JAX, numpy.

An ``Array`` speaks their three protocols. ``__array__`` and DLPack for the CPU look at the host's memory. On a machine
with a GPU, ``__cuda_array_interface__`` and DLPack for CUDA look at the column where kernels reach it: the same bytes
on an integrated device, the copy in the device's memory on a discrete one, which is made if the GPU did not compute the
column itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.errors import NotSupportedError
from finequery.jetson import dlpack, memory

if TYPE_CHECKING:
    from finequery.operators.column import ColumnData


class Array:
    """One column's values, without NULLs: ``valid`` says where they are (None: nowhere), the values there mean nothing.

    ``writable`` is False for a column that is part of a table: what reads it must leave it as it is. Consumers that
    can't be told so (DLPack before version 1) get a copy.
    """

    def __init__(self, values: np.ndarray, valid: Array | None = None, *, writable: bool = True) -> None:
        self._values = values
        self.valid = valid
        self.writable = writable

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self._values.dtype

    def __len__(self) -> int:
        return len(self._values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self._values.view()
        values.flags.writeable = self.writable
        if copy:
            values = values.copy()
        return values if dtype is None else values.astype(dtype, copy=False)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        address, _ = self._on_device()
        return {
            "shape": (len(self),),
            "typestr": self.dtype.str,
            "data": (address, not self.writable),
            "version": 3,
            "strides": None,
            "stream": None,  # the work on it is done
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.DEVICE_TYPES[memory.kind_of(self._values)], 0

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        device_type = int((dl_device or self.__dlpack_device__())[0])
        versioned = max_version is not None and max_version[0] >= 1
        flags = 0 if self.writable else dlpack.READ_ONLY
        own = bool(copy) or (flags != 0 and not versioned)
        if own and copy is False:
            raise BufferError("the column is part of a table: hand it out read-only (DLPack 1.0) or copied")
        source = Array(_placed(self._values, copy=True)) if own else self
        if own:
            flags = dlpack.COPIED
        owner: object
        if device_type == dlpack.CUDA:
            try:
                address, owner = source._on_device(may_copy=copy is not False)
            except AttributeError as error:
                raise BufferError(str(error)) from None
        elif device_type in (dlpack.CPU, source.__dlpack_device__()[0]):
            source._ready()
            address, owner = source._values.ctypes.data, source._values
        else:
            raise BufferError(f"the column can't be handed to a device of type {device_type}")
        return dlpack.capsule(address, len(self), self.dtype, device_type, owner, versioned=versioned, flags=flags)

    def _ready(self) -> None:
        """The host may touch managed memory only while no kernel runs."""
        if memory.kind_of(self._values) == "managed":
            from finequery.jetson import gpu

            gpu.open_device().synchronise()

    def _on_device(self, may_copy: bool = True) -> tuple[int, object]:
        """The device's address of the values, and what keeps them there. AttributeError: there is no device, so that
        ``hasattr`` tells."""
        from finequery.jetson import gpu
        from finequery.jetson.device import probe

        info = probe()
        if info is None or info.simulated:
            raise AttributeError("there is no GPU: the column has no address on one")
        device = gpu.open_device()
        before = device.moved.transfers
        self._values = _placed(self._values)
        argument = device.view(self._values)
        device.synchronise()
        if not may_copy and device.moved.transfers > before:
            raise BufferError("the column is not on the device")
        return device.address(argument), (argument, self._values)

    def __repr__(self) -> str:
        return f"<finequery.Array of {len(self):,} {self.dtype}{'' if self.valid is None else ' with NULLs'}>"


def _placed(values: np.ndarray, copy: bool = False) -> np.ndarray:
    """The values in a block that an integrated device reaches, or of which a discrete one keeps a copy."""
    reached = memory.block_of(values) is not None and memory.kind_of(values) in ("mapped", memory.kind_for("result"))
    if reached and not copy:
        return values
    placed = memory.array(len(values), values.dtype)
    placed[:] = values
    return placed


def arrays(columns: Sequence[ColumnData], names: Sequence[str], shared: set[int]) -> dict[str, Array]:
    """The columns by name, in the types of ``Relation.numpy`` with dates and times as microseconds. ``shared``: the
    identities of blocks that tables hold."""
    from finequery.operators.concat import mask_of
    from finequery.operators.export import column_to_numpy

    result = {}
    for name, column in zip(names, columns):
        if column.type.is_string:
            raise NotSupportedError(
                f'column "{name}" of type {column.type} has no form as an array',
                hint="Use arrow() for it, or leave it out.",
            )
        values = np.ascontiguousarray(np.ma.getdata(column_to_numpy(column)))
        if values.dtype.kind in "mM":
            values = values.view(np.int64)
        mask = mask_of(column)
        block = memory.block_of(values)
        writable = block is None or id(block) not in shared
        result[name] = Array(values, None if mask is None else Array(mask), writable=writable)
    return result
