"""Arrow's C device data interface: arrays and streams of arrays in a device's memory, as C structs in capsules
(arrow.apache.org/docs/format/CDeviceDataInterface.html, CDataInterface/PyCapsuleInterface.html).

A consumer moves the struct out of the capsule by copying it and calls ``release`` of the copy; a capsule that nobody
consumed releases it when it dies. Devices have DLPack's numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

_Release = CFUNCTYPE(None, c_void_p)


class _Array(ctypes.Structure):
    _fields_ = [
        ("length", c_int64),
        ("null_count", c_int64),
        ("offset", c_int64),
        ("n_buffers", c_int64),
        ("n_children", c_int64),
        ("buffers", POINTER(c_void_p)),
        ("children", POINTER(c_void_p)),
        ("dictionary", c_void_p),
        ("release", c_void_p),
        ("private_data", c_void_p),
    ]


class _DeviceArray(ctypes.Structure):
    _fields_ = [
        ("array", _Array),
        ("device_id", c_int64),
        ("device_type", c_int32),
        ("sync_event", c_void_p),
        ("reserved", c_int64 * 3),
    ]


class _Stream(ctypes.Structure):
    _fields_ = [
        ("device_type", c_int32),
        ("get_schema", c_void_p),
        ("get_next", c_void_p),
        ("get_last_error", c_void_p),
        ("release", c_void_p),
        ("private_data", c_void_p),
    ]


@dataclass(frozen=True)
class Node:
    """An array: addresses of its buffers on the device (0: there is none), and the arrays below it."""

    length: int
    nulls: int
    buffers: Sequence[int]
    children: Sequence[Node] = ()
    dictionary: Node | None = None


_new = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, c_char_p, c_void_p)(("PyCapsule_New", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_Destructor = ctypes.PYFUNCTYPE(None, c_void_p)

#: By the number in ``private_data``: what must live until the release.
_given: dict[int, tuple[Any, ...]] = {}
_numbers = iter(range(1, 1 << 62))


def _keep(*owners: Any) -> int:
    number = next(_numbers)
    _given[number] = owners
    return number


def _release(address: int) -> None:
    array = _Array.from_address(address)
    below = [array.children[i] for i in range(array.n_children)] + [array.dictionary]
    for one in below:  # a consumer may have moved a child out: that one's release is gone
        child = _Array.from_address(one) if one else None
        if child is not None and child.release:
            _Release(child.release)(one)
    array.release = None
    _given.pop(array.private_data, None)


_release_array = _Release(_release)


def _fill(array: _Array, node: Node, owner: object) -> None:
    """Write a node and those below it."""
    children = [_Array() for _ in node.children]
    for child, below in zip(children, node.children):
        _fill(child, below, owner)
    dictionary = None
    if node.dictionary is not None:
        dictionary = _Array()
        _fill(dictionary, node.dictionary, owner)
    buffers = (c_void_p * max(len(node.buffers), 1))(*(address or None for address in node.buffers))
    pointers = (c_void_p * max(len(children), 1))(*(ctypes.addressof(child) for child in children))
    array.length, array.null_count, array.offset = node.length, node.nulls, 0
    array.n_buffers, array.n_children = len(node.buffers), len(children)
    array.buffers = ctypes.cast(buffers, POINTER(c_void_p))
    array.children = ctypes.cast(pointers, POINTER(c_void_p))
    array.dictionary = None if dictionary is None else ctypes.addressof(dictionary)
    array.release = ctypes.cast(_release_array, c_void_p)
    array.private_data = _keep(buffers, pointers, children, dictionary, owner)


def _device_array(into: _DeviceArray, node: Node, device_type: int, owner: object) -> None:
    _fill(into.array, node, owner)
    into.device_id, into.device_type, into.sync_event = 0, device_type, None  # the work on it is done


_capsules: dict[int, Any] = {}  # structs by their addresses, while there is a capsule of them


def _destroy(capsule: int, kind: Any, name: bytes) -> None:
    """A capsule dies: release what its struct still holds."""
    where = _pointer(capsule, name)
    struct = kind.from_address(where)
    held = struct.array if kind is _DeviceArray else struct
    if held.release:
        _Release(held.release)(where)  # the array is the first thing in its struct
    _capsules.pop(where, None)


def _capsule(struct: Any) -> Any:
    where, (name, destroy) = ctypes.addressof(struct), _CAPSULES[type(struct)]
    _capsules[where] = struct
    return _new(where, name, ctypes.cast(destroy, c_void_p))


_ARRAY, _STREAM = b"arrow_device_array", b"arrow_device_array_stream"
_CAPSULES: dict[Any, tuple[bytes, Any]] = {
    _DeviceArray: (_ARRAY, _Destructor(lambda capsule: _destroy(capsule, _DeviceArray, _ARRAY))),
    _Stream: (_STREAM, _Destructor(lambda capsule: _destroy(capsule, _Stream, _STREAM))),
}


def array(node: Node, device_type: int, owner: object) -> Any:
    """A capsule ``arrow_device_array``."""
    struct = _DeviceArray()
    _device_array(struct, node, device_type, owner)
    return _capsule(struct)


_GetSchema = CFUNCTYPE(c_int, c_void_p, c_void_p)
_LastError = CFUNCTYPE(c_void_p, c_void_p)


def _end(address: int) -> None:
    stream = _Stream.from_address(address)
    stream.release = None
    _given.pop(stream.private_data, None)


_last_error = _LastError(lambda _: None)  # nothing can fail
_release_stream = _Release(_end)


def stream(export_schema: Callable[[int], None], node: Node, device_type: int, owner: object) -> Any:
    """A capsule ``arrow_device_array_stream`` of one array. ``export_schema`` writes an ArrowSchema to an address."""
    left = [node]

    def get_schema(_: int, out: int) -> int:
        export_schema(out)
        return 0

    def get_next(_: int, out: int) -> int:
        into = _DeviceArray.from_address(out)
        if left:
            _device_array(into, left.pop(), device_type, owner)
        else:
            into.array.release = None  # the end
        return 0

    struct = _Stream()
    struct.device_type = device_type
    functions = _GetSchema(get_schema), _GetSchema(get_next)
    struct.get_schema, struct.get_next = (ctypes.cast(function, c_void_p) for function in functions)
    struct.get_last_error = ctypes.cast(_last_error, c_void_p)
    struct.release = ctypes.cast(_release_stream, c_void_p)
    struct.private_data = _keep(functions, owner)
    return _capsule(struct)
