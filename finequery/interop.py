"""Columns of a result for array libraries: CuPy, PyTorch, JAX, numpy.

An ``Array`` speaks their three protocols. ``__array__`` and DLPack for the CPU look at the host's memory. On a machine
with a GPU, ``__cuda_array_interface__`` and DLPack for CUDA look at the column where kernels reach it: the same bytes
on an integrated device, the copy in the device's memory on a discrete one, which is made if the GPU did not compute the
column itself. Encodings are undone on the side that asks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.errors import InterfaceError, NotSupportedError
from finequery.jetson import dlpack, memory

if TYPE_CHECKING:
    from finequery.operators.column import ColumnData


class Array:
    """One column's values, without NULLs: ``valid`` says where they are (None: nowhere), the values there mean nothing.

    ``values`` may be a function that gives them, called when the host first asks; ``there`` gives the kernel argument
    that has them on a device. ``device_type`` is where DLPack finds them: on the host (None), or on the GPU.
    ``writable`` is False for a column that is part of a table: what reads it must leave it as it is. Consumers that
    can't be told so (DLPack before version 1) get a copy.
    """

    def __init__(
        self,
        values: np.ndarray | Callable[[], np.ndarray],
        valid: Array | None = None,
        *,
        writable: bool = True,
        dtype: np.dtype[Any] | None = None,
        length: int | None = None,
        there: Callable[[Any], Any] | None = None,
        device_type: int | None = None,
    ) -> None:
        self._given = values
        self._there = there
        self._argument: Any = None  # of the device, with what it lies in
        self._device_type = device_type
        self.valid = valid
        self.writable = writable
        #: The type of the values.
        self.dtype: np.dtype[Any] = self._values.dtype if dtype is None else np.dtype(dtype)
        self._length = len(self._values) if length is None else length

    @property
    def _values(self) -> np.ndarray:
        if callable(self._given):
            self._given = self._given()
        return self._given

    def __len__(self) -> int:
        return self._length

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
        if self._device_type is not None:
            return self._device_type, 0
        return dlpack.DEVICE_TYPES[memory.kind_of(self._values)], 0

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule. ``stream`` need not be waited for: all work on the values is done."""
        device_type, number = (int(part) for part in dl_device or self.__dlpack_device__())
        if device_type == dlpack.CUDA and stream == 0:
            raise BufferError("stream 0 could be two of CUDA's: 1 is the legacy default, 2 the one of the thread")
        if number:
            raise BufferError(f"the column can't be handed to device {number} of type {device_type}")
        versioned = max_version is not None and max_version[0] >= 1
        flags = 0 if self.writable else dlpack.READ_ONLY
        own = bool(copy) or (flags != 0 and not versioned)
        if own and copy is False:
            raise BufferError("the column is part of a table: hand it out read-only (DLPack 1.0) or copied")
        if own:
            flags = dlpack.COPIED
        owner: object
        if device_type == dlpack.CUDA:
            try:
                address, owner = self._copied() if own else self._on_device(may_copy=copy is not False)
            except AttributeError as error:
                raise BufferError(str(error)) from None
        elif device_type in (dlpack.CPU, dlpack.DEVICE_TYPES[memory.kind_of(self._values)]):
            self._ready()
            owner = _block(self._values) if own else self._values
            address = owner.ctypes.data
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
        device = _device()
        if self._argument is None:
            before = device.moved.transfers
            with device.query(memory.Account(shared=memory.kind_for("column"))):
                if self._there is not None:
                    argument, host = self._there(device), None
                else:
                    host = memory.placed(self._values)
                    argument = device.view(host)
            if not may_copy and device.moved.transfers > before:
                raise BufferError("the column is not on the device")
            self._argument = argument, host
        return device.address(self._argument[0]), self._argument

    def _copied(self) -> tuple[int, object]:
        """The same of a copy of their own."""
        device = _device()
        with device.query(memory.Account(shared=memory.kind_for("column"))):
            argument = device.upload(self._values)
        return device.address(argument), argument

    def __repr__(self) -> str:
        return f"<finequery.Array of {len(self):,} {self.dtype}{'' if self.valid is None else ' with NULLs'}>"


def _device() -> Any:
    """The GPU; AttributeError where there is none."""
    from finequery.jetson import gpu
    from finequery.jetson.device import probe

    info = probe()
    if info is None or info.simulated:
        raise AttributeError("there is no GPU: the column has no address on one")
    return gpu.open_device()


def _block(values: np.ndarray) -> np.ndarray:
    """A copy."""
    copy = memory.array(len(values), values.dtype)
    copy[:] = values
    return copy


def arrays(
    columns: Sequence[ColumnData], names: Sequence[str], shared: set[int], device: str = "cpu"
) -> dict[str, Array]:
    """The columns by name, in the types of ``Relation.numpy`` with dates and times as microseconds. ``shared``: the
    identities of blocks that tables hold; ``device``: where DLPack finds them."""
    from finequery.operators.concat import mask_of

    if device not in ("cpu", "cuda"):
        raise InterfaceError(f"Arrays are on 'cpu' or 'cuda', not {device!r}")
    device_type = None
    if device == "cuda":
        try:
            _device()
        except AttributeError:
            raise NotSupportedError("There is no GPU for arrays(device='cuda')") from None
        device_type = dlpack.CUDA
    result = {}
    for name, column in zip(names, columns):
        if column.type.is_string:
            raise NotSupportedError(
                f'column "{name}" of type {column.type} has no form as an array',
                hint="Use arrow() for it, or leave it out.",
            )
        mask = mask_of(column)
        valid = None if mask is None else Array(mask, device_type=device_type)
        there = _decoder(column)
        if there is None:
            values = _host_values(column)
            block = memory.block_of(values)
            writable = block is None or id(block) not in shared
            result[name] = Array(values, valid, writable=writable, device_type=device_type)
            continue
        dtype, decode = there
        own = _is_plain(column, dtype)
        writable = not own or id(memory.block_of(column.data)) not in shared
        result[name] = Array(
            functools.partial(_host_values, column),
            valid,
            writable=writable,
            dtype=dtype,
            length=column.length,
            there=decode,
            device_type=device_type,
        )
    return result


def _host_values(column: ColumnData) -> np.ndarray:
    from finequery.operators.export import column_to_numpy

    values = np.ascontiguousarray(np.ma.getdata(column_to_numpy(column)))
    return values.view(np.int64) if values.dtype.kind in "mM" else values


def _decoder(column: ColumnData) -> tuple[np.dtype[Any], Callable[[Any], Any]] | None:
    """The type of the values, and how a device gets them from the column where it lies; None where only the host
    computes them (dates in microseconds, decimals as floats)."""
    from finequery.operators.cuda.decode import KINDS, plain
    from finequery.operators.export import plain_dtype

    dtype = plain_dtype(column)
    if dtype is None or column.kind not in KINDS:
        return None
    if dtype == np.bool_:
        return dtype, lambda device: device.view(column.data[: column.length])
    return dtype, lambda device: plain(device, column, dtype)


def _is_plain(column: ColumnData, dtype: np.dtype[Any]) -> bool:
    """Whether the values are the column's own memory."""
    stored = np.dtype(np.bool_) if column.type.name == "BOOLEAN" else column.data.dtype
    return column.base == 0 and column.scale == 1 and stored == dtype
