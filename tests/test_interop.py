"""Columns to and from other libraries' arrays: DLPack, __cuda_array_interface__, Arrow's device interface."""

from __future__ import annotations

import ctypes
import datetime
import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fake_cuda import H100, ORIN, Library, Machine, install

import finequery
from finequery.errors import NotSupportedError
from finequery.interop import Array
from finequery.jetson import dlpack, foreign, gpu, memory

TYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?")


@pytest.fixture
def con() -> Iterator[Any]:
    with finequery.connect(threads=1) as con:
        con.register("n", {"i": np.arange(1000)})
        yield con


def fake(monkeypatch: pytest.MonkeyPatch, attributes: dict[int, int]) -> tuple[Machine, gpu.CudaDevice]:
    machine = install(monkeypatch, Library(attributes, late=True))
    device = machine.open()
    monkeypatch.setattr(gpu, "open_device", lambda: device)
    return machine, device


class Legacy:
    """A consumer that knows DLPack of before version 1 alone."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.array.__dlpack__(stream=stream)


class OnDevice:
    """An array of another library in the fake device's memory."""

    def __init__(self, library: Library, values: np.ndarray, stream: int | None = None) -> None:
        where = ctypes.c_uint64()
        library.cuMemAlloc_v2(ctypes.byref(where), values.nbytes)
        ctypes.memmove(where.value, values.ctypes.data, values.nbytes)
        self._values, self._address, self._stream = values, where.value, stream

    @property
    def interface(self) -> dict[str, Any]:
        return {
            "shape": self._values.shape,
            "typestr": self._values.dtype.str,
            "data": (self._address, False),
            "version": 3,
            "stream": self._stream,
        }


class Cupy(OnDevice):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.interface


class Jax(OnDevice):
    released = 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, 0

    def __dlpack__(self, *, stream: Any) -> Any:
        assert stream == 1
        return dlpack.capsule(self._address, len(self._values), self._values.dtype, dlpack.CUDA, self, versioned=False)


# Results


@pytest.mark.parametrize("dtype", TYPES)
def test_dlpack_of_every_type(dtype: str) -> None:
    values = memory.array(100, dtype)
    values[:] = np.arange(100) % 3
    array = Array(values)
    for seen in (np.from_dlpack(array), np.from_dlpack(Legacy(array))):
        assert seen.dtype == np.dtype(dtype) and (seen == values).all()
        assert seen.ctypes.data == values.ctypes.data


def test_capsules_end() -> None:
    gc.collect()  # what earlier tests left is not counted in this one
    values = memory.array(10_000, np.int64)
    live = memory.live()
    array = Array(values)
    unused = array.__dlpack__(max_version=(1, 1))
    seen = np.from_dlpack(array)
    assert len(dlpack._given) >= 2
    count = len(dlpack._given)
    del unused
    assert len(dlpack._given) == count - 1
    del values, array
    gc.collect()
    assert memory.live() == live  # numpy has it
    del seen
    gc.collect()
    assert len(dlpack._given) == count - 2 and memory.live() < live


def test_own_capsules_can_be_consumed() -> None:
    values = memory.array(5, np.float32)
    values[:] = 1.5
    for versioned in (False, True):
        capsule = Array(values).__dlpack__(max_version=(1, 0) if versioned else None)
        found = dlpack.consume(capsule)
        assert (found.address, found.count, found.stride) == (values.ctypes.data, 5, 1)
        assert (found.dtype, found.device_type) == (np.float32, dlpack.CPU)
        with pytest.raises(ValueError, match="consumed before"):
            dlpack.consume(capsule)
        found.release()
        del capsule
    with pytest.raises(ValueError, match="no DLPack capsule"):
        dlpack.consume(np.arange(3))


def test_results(con: Any) -> None:
    con.execute("create table t as select i, i * 0.5::double as d from n")
    relation = con.sql("select i, d, d + 1 as e, i % 2 = 0 as even, date '2020-01-01' as day, 1.25 as m from t")
    arrays = relation.arrays()
    seen = {name: np.from_dlpack(array) for name, array in arrays.items()}
    assert seen["i"].tolist() == list(range(1000)) and seen["e"][3] == 2.5
    assert seen["even"].dtype == np.bool_ and seen["m"][0] == 1.25
    micros = (datetime.datetime(2020, 1, 1) - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
    assert seen["day"][7] == micros
    assert repr(arrays["d"]) == "<finequery.Array of 1,000 float64>"
    assert np.asarray(arrays["e"]).ctypes.data == seen["e"].ctypes.data
    assert not hasattr(arrays["e"], "__cuda_array_interface__")
    with pytest.raises(BufferError, match="no GPU"):
        arrays["e"].__dlpack__(dl_device=(dlpack.CUDA, 0))
    with pytest.raises(BufferError, match="type 7"):
        arrays["e"].__dlpack__(dl_device=(7, 0))


def test_columns_of_tables_are_not_written(con: Any) -> None:
    con.execute("create table t as select i * 0.5::double as d from n")
    arrays = con.sql("select d, d + 1 as e from t").arrays()
    assert not arrays["d"].writable and arrays["e"].writable
    seen = np.from_dlpack(arrays["d"])
    assert not seen.flags.writeable and not np.asarray(arrays["d"]).flags.writeable
    copy = np.from_dlpack(Legacy(arrays["d"]))  # can't be told: gets its own
    assert copy.ctypes.data != seen.ctypes.data and (copy == seen).all()
    with pytest.raises(BufferError, match="read-only"):
        arrays["d"].__dlpack__(copy=False)
    own = np.from_dlpack(arrays["e"])
    own[0] = 9
    assert con.sql("select min(d) from t").fetchone() == (0.0,)


def test_nulls_are_a_column_of_their_own(con: Any) -> None:
    arrays = con.sql("select case when i % 2 = 0 then i end as a from n where i < 4").arrays()
    assert arrays["a"].valid is not None
    assert np.from_dlpack(arrays["a"].valid).tolist() == [True, False, True, False]
    assert np.from_dlpack(arrays["a"])[::2].tolist() == [0, 2]
    with pytest.raises(NotSupportedError, match='"s" of type VARCHAR'):
        con.sql("select 'x' || i as s from n").arrays()


def test_arrow_device_interface(con: Any) -> None:
    batch = pa.RecordBatch._import_from_c_device_capsule(
        *con.sql("select i as a from n where i < 3").__arrow_c_device_array__()
    )
    assert batch.to_pydict() == {"a": [0, 1, 2]}
    schema, array = con.sql("select i as a from n where i < 0").__arrow_c_device_array__()
    assert pa.RecordBatch._import_from_c_device_capsule(schema, array).num_rows == 0


def test_a_discrete_device_has_its_own_copy(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, device = fake(monkeypatch, H100)
    arrays = con.sql("select i * 0.5::double as d from n where i < 100").arrays()
    assert arrays["d"].__dlpack_device__() == (dlpack.CPU, 0)
    interface = arrays["d"].__cuda_array_interface__
    assert (interface["shape"], interface["typestr"], interface["data"][1]) == ((100,), "<f8", False)
    there = np.ctypeslib.as_array((ctypes.c_double * 100).from_address(interface["data"][0]))
    assert (there == np.arange(100) * 0.5).all()
    assert interface["data"][0] != np.from_dlpack(arrays["d"]).ctypes.data
    moved = device.moved.transfers
    found = dlpack.consume(arrays["d"].__dlpack__(dl_device=(dlpack.CUDA, 0), copy=False))
    assert found.address == interface["data"][0] and found.device_type == dlpack.CUDA
    assert device.moved.transfers == moved == 1
    found.release()


def test_a_result_of_the_device_is_handed_out_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    _, device = fake(monkeypatch, H100)
    result = device.zeros(50, np.float64)
    result[:] = 2.5  # a kernel
    array = Array(device.to_host(result, keep=True))
    moved = device.moved.to_device
    assert array.__cuda_array_interface__["data"][0] == result.ctypes.data and device.moved.to_device == moved == 0


def test_an_integrated_device_sees_the_same_bytes(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, device = fake(monkeypatch, ORIN)
    values = memory.array(100, np.float64)
    values[:] = 3
    array = Array(values)
    assert array.__dlpack_device__() == (dlpack.CUDA_HOST, 0)
    assert np.from_dlpack(array).ctypes.data == values.ctypes.data  # numpy takes pinned memory
    assert array.__cuda_array_interface__["data"][0] == values.ctypes.data
    found = dlpack.consume(array.__dlpack__(dl_device=(dlpack.CPU, 0)))
    assert (found.address, found.device_type) == (values.ctypes.data, dlpack.CPU)
    found.release()
    shared = memory.array(10, np.int32, kind="managed")
    shared[:] = 1
    assert Array(shared).__dlpack_device__() == (dlpack.MANAGED, 0)
    assert np.from_dlpack(Array(shared)).tolist() == [1] * 10
    assert device.moved.total == 0 and not machine.library.copies


# Inputs


def test_arrays_on_the_host(con: Any) -> None:
    class Torch:  # a tensor on the CPU: DLPack alone
        def __init__(self, values: np.ndarray) -> None:
            self.values = values

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.values.__dlpack_device__()

        def __dlpack__(self, **options: Any) -> Any:
            return self.values.__dlpack__(**options)

    con.register("t", {"a": Torch(np.arange(5)), "b": np.arange(5) * 2})
    assert con.sql("select sum(a), sum(b) from t").fetchall() == [(10, 20)]
    with pytest.raises(NotSupportedError, match="one dimension"):
        con.register("u", {"a": Torch(np.zeros((2, 2)))})


@pytest.mark.parametrize("attributes", [ORIN, H100], ids=["integrated", "discrete"])
@pytest.mark.parametrize("kind", [Cupy, Jax])
def test_arrays_on_a_device(con: Any, monkeypatch: pytest.MonkeyPatch, attributes: Any, kind: Any) -> None:
    machine, device = fake(monkeypatch, attributes)
    data = {"k": kind(machine.library, np.arange(1000) % 7), "v": kind(machine.library, np.arange(1000) * 0.5)}
    con.register("t", data)
    rows = con.sql("select k, sum(v) from t group by k order by k").fetchall()
    assert rows == [(k, sum(i * 0.5 for i in range(1000) if i % 7 == k)) for k in range(7)]
    assert device.moved.to_host >= 16_000
    assert not dlpack._given


def test_strides_masks_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, _ = fake(monkeypatch, H100)

    class Strided(Cupy):
        change: dict[str, Any] = {}

        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return self.interface | self.change

    array = Strided(machine.library, np.arange(10), stream=1)
    array.change = {"shape": (5,), "strides": (16,)}
    assert foreign.host_array(array).tolist() == [0, 2, 4, 6, 8]
    array.change = {"strides": (-8,), "data": (array._address + 72, False)}
    assert foreign.host_array(array).tolist() == list(range(9, -1, -1))
    array.change = {"shape": (0,)}
    assert foreign.host_array(array).tolist() == []
    array.change = {"shape": (5, 2)}
    with pytest.raises(NotSupportedError, match="one dimension, not 2"):
        foreign.host_array(array)
    array.change = {"mask": array}
    with pytest.raises(NotSupportedError, match="mask"):
        foreign.host_array(array)


def test_arrays_of_a_device_that_is_not_there(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery.jetson import device

    monkeypatch.setattr(device, "probe", lambda: None)
    gpu.open_device.cache_clear()
    with pytest.raises(NotSupportedError, match="There is no GPU"):
        con.register("t", {"a": Cupy(Library(H100), np.arange(3))})
