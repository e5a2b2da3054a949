"""DLPack: arrays handed from library to library as a C struct in a capsule (dmlc.github.io/dlpack, versions 0 and 1).

Only what columns need: one dimension. Shape and strides lie behind the struct in the same memory, and the whole lives
until the consumer calls its deleter, or until the capsule dies if nobody consumed it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np

CPU, CUDA, CUDA_HOST, MANAGED = 1, 2, 3, 13
#: The device type of each kind of memory.
DEVICE_TYPES = {"pageable": CPU, "mapped": CUDA_HOST, "managed": MANAGED, "device": CUDA}
READ_ONLY, COPIED = 1, 2
_VERSION = (1, 0)
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_NAME, _NAME_VERSIONED = b"dltensor", b"dltensor_versioned"
_USED, _USED_VERSIONED = b"used_dltensor", b"used_dltensor_versioned"


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


_Deleter = CFUNCTYPE(None, c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", c_void_p), ("deleter", _Deleter)]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", _Deleter),
        ("flags", c_uint64),
        ("tensor", _Tensor),
    ]


# A capsule's destructor gets a capsule that is dying: as an address, since a new reference would bring it back.
_new = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, c_char_p, c_void_p)(("PyCapsule_New", ctypes.pythonapi))
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))

_given: dict[int, tuple[Any, ...]] = {}  # by address of the struct: what must live as long


def _delete(address: int) -> None:
    _given.pop(address, None)


def _destroy(capsule: int) -> None:
    for name in (_NAME, _NAME_VERSIONED):  # a consumed one has another name
        if _is_valid(capsule, name):
            _given.pop(_pointer(capsule, name), None)


_deleter, _destructor = _Deleter(_delete), _Deleter(_destroy)


def capsule(
    address: int,
    count: int,
    dtype: np.dtype[Any],
    device_type: int,
    owner: object,
    *,
    versioned: bool,
    flags: int = 0,
) -> Any:
    """A capsule of ``count`` values at an address, which ``owner`` keeps."""
    managed: Any = _Versioned() if versioned else _Managed()
    if versioned:
        managed.major, managed.minor = _VERSION
        managed.flags = flags
    shape, strides = (c_int64 * 1)(count), (c_int64 * 1)(1)
    tensor = managed.tensor
    tensor.data, tensor.device_type, tensor.device_id, tensor.ndim = address, device_type, 0, 1
    tensor.code, tensor.bits, tensor.lanes = _CODES[dtype.kind], dtype.itemsize * 8, 1
    tensor.shape, tensor.strides = shape, strides
    managed.deleter = _deleter
    where = ctypes.addressof(managed)
    _given[where] = (managed, shape, strides, owner)
    return _new(where, _NAME_VERSIONED if versioned else _NAME, ctypes.cast(_destructor, c_void_p))


@dataclass(frozen=True)
class Foreign:
    """What a capsule of another library holds. ``release`` must be called when it is no longer needed."""

    address: int
    count: int
    stride: int  # in values
    dtype: np.dtype[Any]
    device_type: int
    release: Callable[[], None]


def consume(given: Any) -> Foreign:
    """Take a capsule of another library over."""
    versioned = bool(_is_valid(id(given), _NAME_VERSIONED))
    if not versioned and not _is_valid(id(given), _NAME):
        raise ValueError("this is no DLPack capsule, or one that was consumed before")
    where = _pointer(id(given), _NAME_VERSIONED if versioned else _NAME)
    managed: Any = _Versioned.from_address(where) if versioned else _Managed.from_address(where)
    tensor = managed.tensor
    letter = next((letter for letter, code in _CODES.items() if code == tensor.code), None)
    if tensor.ndim != 1 or tensor.lanes != 1 or letter is None or tensor.bits % 8:
        raise ValueError("columns are one-dimensional arrays of integers, floats or booleans")
    _rename(given, _USED_VERSIONED if versioned else _USED)

    def release() -> None:
        if managed.deleter:
            managed.deleter(where)

    dtype = np.dtype(f"{letter}{tensor.bits // 8}")
    stride = tensor.strides[0] if tensor.strides else 1
    address = (tensor.data or 0) + tensor.byte_offset
    return Foreign(address, tensor.shape[0], stride, dtype, tensor.device_type, release)
