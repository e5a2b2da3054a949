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
from fake_cuda import H100, ORIN, Library, Machine, Simulated, install

import finequery
from finequery.errors import InterfaceError, NotSupportedError
from finequery.interop import Array
from finequery.jetson import arrow_device, cuda, dlpack, foreign, gpu, memory

SIMULATED = cuda.simulated()  # the fake driver takes the variable away that says so
TYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?")


@pytest.fixture
def con() -> Iterator[Any]:
    with finequery.connect(threads=1, device="cpu") as con:
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
    values = memory.array(100, np.float64, kind="mapped")
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


def kernels(monkeypatch: pytest.MonkeyPatch, attributes: dict[int, int]) -> tuple[Any, Simulated]:
    """A connection that uses a fake GPU whose kernels are simulated."""
    if not SIMULATED:
        pytest.skip("kernels of a chip do not reach the fake device's memory")
    cuda.cuda()
    device = Simulated(install(monkeypatch, Library(attributes, late=True)))
    monkeypatch.setattr(gpu, "open_device", lambda: device)
    con = finequery.connect(threads=1, device="gpu")
    con.register("n", {"i": np.arange(1000)})
    con.execute("""create table t as select (i + 70000)::integer as a, i * 0.5::double as d, i % 2 = 0 as b,
        case when i % 3 > 0 then i * 5 - 20 end as n, date '2020-01-01' + (i % 9)::integer as day, 'w' || i % 4 as s,
        'text ' || i as u, (i * 1.25)::decimal(9, 2) as m, timestamp '2020-01-01' + interval (i) minute as at from n""")
    return con, device


def at(address: int, count: int, dtype: Any) -> np.ndarray:
    """What lies at an address of a fake device."""
    nbytes = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), dtype)


@pytest.mark.parametrize("attributes", [ORIN, H100], ids=["integrated", "discrete"])
def test_encodings_are_undone_on_the_device(monkeypatch: pytest.MonkeyPatch, attributes: Any) -> None:
    con, device = kernels(monkeypatch, attributes)
    con.execute("select sum(a), sum(d), sum(n), max(at), count(b) from t where b or not b")  # columns are there now
    arrays = con.sql("select a, d, b, n, at from t").arrays(device="cuda")
    before = device.moved.total
    for name, dtype in {"a": "i4", "d": "f8", "b": "?", "n": "i8", "at": "i8"}.items():
        array = arrays[name]
        assert array.dtype == np.dtype(dtype) and len(array) == 1000 and array.__dlpack_device__() == (dlpack.CUDA, 0)
        found = dlpack.consume(array.__dlpack__(stream=2, max_version=(1, 1)))
        assert found.device_type == dlpack.CUDA and found.address == array.__cuda_array_interface__["data"][0]
        device.synchronise()
        seen = at(found.address, 1000, found.dtype)
        expected = np.asarray(con.sql(f"select {name} as x from t").arrays()["x"])
        valid = slice(None) if array.valid is None else np.asarray(array.valid)
        assert seen.dtype == np.dtype(dtype) and (seen[valid] == expected[valid]).all(), name
        found.release()
    assert device.moved.total == before  # nothing crossed, in either way
    with pytest.raises(BufferError, match="stream 0"):
        arrays["a"].__dlpack__(stream=0)
    with pytest.raises(BufferError, match="device 1"):
        arrays["a"].__dlpack__(dl_device=(dlpack.CUDA, 1))
    copy = dlpack.consume(arrays["d"].__dlpack__(copy=True))
    device.synchronise()
    assert copy.address != arrays["d"].__cuda_array_interface__["data"][0]
    assert (at(copy.address, 1000, "f8") == np.arange(1000) * 0.5).all()
    copy.release()
    with pytest.raises(InterfaceError, match="'cpu' or 'cuda'"):
        con.sql("select a from t").arrays(device="tpu")


def test_arrays_for_the_gpu_without_one(con: Any) -> None:
    with pytest.raises(NotSupportedError, match="no GPU"):
        con.sql("select i from n").arrays(device="cuda")


class CArray(ctypes.Structure):
    """ArrowArray of abi.h."""


CArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(CArray))),
    ("dictionary", ctypes.POINTER(CArray)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ("private_data", ctypes.c_void_p),
]


class CDeviceArray(ctypes.Structure):
    _fields_ = [
        ("array", CArray),
        ("device_id", ctypes.c_int64),
        ("device_type", ctypes.c_int32),
        ("sync_event", ctypes.c_void_p),
        ("reserved", ctypes.c_int64 * 3),
    ]


class CStream(ctypes.Structure):
    _fields_ = [
        ("device_type", ctypes.c_int32),
        ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)),
        ("release", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("private_data", ctypes.c_void_p),
    ]


def held(capsule: Any, name: bytes, kind: Any) -> Any:
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return kind.from_address(get(capsule, name))


def values_of(array: CArray, field: pa.Field) -> list[Any]:
    """A consumer on the fake device: its memory is the host's, so that Arrow can read the addresses."""
    buffers = [array.buffers[i] for i in range(array.n_buffers)]
    kind, rows = field.type, array.length
    index = kind.index_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(index) or pa.types.is_large_string(index):
        width = 8 if pa.types.is_large_string(index) else 4
        sizes = [-(-rows // 8), (rows + 1) * width, int(at(buffers[1], rows + 1, f"i{width}")[-1])]
    else:
        sizes = [-(-rows // 8), -(-rows * index.bit_width // 8)]
    parts = [None if b is None else pa.foreign_buffer(b, n) for b, n in zip(buffers, sizes)]
    found = pa.Array.from_buffers(index, rows, parts, array.null_count)
    if pa.types.is_dictionary(kind):
        words = values_of(array.dictionary.contents, pa.field("", kind.value_type))
        return [None if code is None else words[code] for code in found.to_pylist()]
    return found.to_pylist()


SQL = "select a, d, b, n, day, s, u, m, at from t"


@pytest.mark.parametrize("attributes", [ORIN, H100], ids=["integrated", "discrete"])
def test_arrow_arrays_on_the_device(monkeypatch: pytest.MonkeyPatch, attributes: Any) -> None:
    con, device = kernels(monkeypatch, attributes)
    given = dict(arrow_device._given), dict(arrow_device._capsules)
    schema, capsule = con.sql(SQL).__arrow_c_device_array__()
    device.synchronise()
    fields = pa.Schema._import_from_c_capsule(schema)
    struct = held(capsule, b"arrow_device_array", CDeviceArray)
    assert struct.device_type == (dlpack.CUDA_HOST if attributes is ORIN else dlpack.CUDA)
    assert (struct.device_id, struct.sync_event, list(struct.reserved)) == (0, None, [0, 0, 0])
    batch = struct.array
    assert (batch.length, batch.null_count, batch.n_buffers, batch.n_children) == (1000, 0, 1, 9)
    expected = con.sql(SQL).arrow()
    for number, field in enumerate(fields):
        assert values_of(batch.children[number].contents, field) == expected.column(number).to_pylist(), field
    assert (device.moved.total == 0) is (attributes is ORIN)
    moved = CDeviceArray.from_buffer_copy(struct)  # a consumer takes the struct and leaves an empty one
    struct.array.release = type(struct.array.release)()
    del capsule
    gc.collect()
    assert values_of(moved.array.children[1].contents, fields.field(1))[3] == 1.5
    moved.array.release(ctypes.addressof(moved))
    unused = con.sql(SQL).__arrow_c_device_array__()
    del unused, schema
    gc.collect()
    assert (arrow_device._given, arrow_device._capsules) == given


def test_a_stream_of_arrow_arrays_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    con, device = kernels(monkeypatch, H100)
    given = dict(arrow_device._given), dict(arrow_device._capsules)
    capsule = con.sql("select d, n from t where a < 70010").__arrow_c_device_stream__()
    device.synchronise()
    stream = held(capsule, b"arrow_device_array_stream", CStream)
    assert stream.device_type == dlpack.CUDA and stream.get_last_error(None) is None
    room = ctypes.create_string_buffer(72)  # an ArrowSchema
    assert stream.get_schema(ctypes.addressof(stream), ctypes.addressof(room)) == 0
    schema = pa.Schema._import_from_c(ctypes.addressof(room))
    assert schema.names == ["d", "n"]
    batch = CDeviceArray()
    assert stream.get_next(ctypes.addressof(stream), ctypes.addressof(batch)) == 0
    assert values_of(batch.array.children[0].contents, schema.field(0)) == [i * 0.5 for i in range(10)]
    assert values_of(batch.array.children[1].contents, schema.field(1))[:3] == [None, -15, -10]
    end = CDeviceArray()
    assert stream.get_next(ctypes.addressof(stream), ctypes.addressof(end)) == 0 and not end.array.release
    del capsule
    gc.collect()
    assert values_of(batch.array.children[0].contents, schema.field(0))[9] == 4.5  # outlives its stream
    batch.array.release(ctypes.addressof(batch))
    gc.collect()
    assert (arrow_device._given, arrow_device._capsules) == given


def test_a_result_without_rows_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    con, _ = kernels(monkeypatch, H100)
    schema, capsule = con.sql(SQL + " where a < 0").__arrow_c_device_array__()
    batch = held(capsule, b"arrow_device_array", CDeviceArray).array
    assert (batch.length, batch.n_children) == (0, 9)
    assert [f.name for f in pa.Schema._import_from_c_capsule(schema)] == [
        "a",
        "d",
        "b",
        "n",
        "day",
        "s",
        "u",
        "m",
        "at",
    ]


def test_no_stream_of_the_device_without_one(con: Any) -> None:
    with pytest.raises(NotSupportedError, match="not on a GPU"):
        con.sql("select i from n").__arrow_c_device_stream__()


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
    assert device.moved.to_host == 16_000
    assert con.sql("select count(*) from t where v > 100").fetchone() == (799,)
    assert device.moved.to_host == 16_000  # the host's copy is kept
    con.unregister("t")
    con.execute("set threads = 1")  # which forgets the plans
    gc.collect()
    assert device.resident.nbytes == 0 and not dlpack._given


DATA = {
    "u1": np.arange(1000) % 200,
    "u2": np.arange(1000) * 60,
    "u4": np.arange(1000) * 4_000_000,
    "i1": np.arange(1000) % 100,
    "i4": np.arange(1000) * 7,
    "i8": np.arange(1000) * -(10**12),
    "f4": np.arange(1000) * 0.25,
    "f8": np.arange(1000) * -0.5,
    "?": np.arange(1000) % 3 == 0,
}
QUERY = "select count(*), sum(i4), min(i8), max(u4), sum(u1), max(u2), min(f4), sum(f8), max(i1) from t where b"


def test_kernels_read_registered_arrays_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    con, device = kernels(monkeypatch, H100)
    data = {n.replace("?", "b"): Cupy(device._library, values.astype(n)) for n, values in DATA.items()}
    before = device.moved.to_device, device.moved.to_host
    con.register("t", data)
    text = con.sql(QUERY).explain(analyze=True)
    assert "[gpu]" in text
    size = sum(np.dtype(n).itemsize * 1000 for n in DATA)
    assert device.moved.to_host - before[1] - size < 1000  # for the host, once
    assert device.moved.to_device - before[0] < 1000  # accumulators and such
    rows = con.sql(QUERY).fetchall()
    where = DATA["?"]
    expected = (334, *(DATA[n][where] for n in ("i4", "i8", "u4", "u1", "u2", "f4", "f8", "i1")))
    functions = (sum, min, max, sum, max, min, sum, max)
    assert rows == [(334, *(f(v.tolist()) for f, v in zip(functions, expected[1:])))]
    assert device.moved.to_host - before[1] - size < 2000
    types = con.sql("select typeof(u1), typeof(i4), typeof(i8), typeof(f4), typeof(b) from t limit 1").fetchone()
    assert types == ("UTINYINT", "INTEGER", "BIGINT", "FLOAT", "BOOLEAN")
    address = con.sql("select f8 from t").arrays()["f8"].__cuda_array_interface__
    assert address["data"] == (data["f8"]._address, True)  # and go out as they came in: read-only
    device.trim()  # nothing is lost: the host has a copy
    assert con.sql(QUERY).fetchall() == rows


def test_registered_arrays_that_have_to_be_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    con, device = kernels(monkeypatch, H100)

    class Gaps(Cupy):
        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return self.interface | {"shape": (500,), "strides": (16,)}

    library = device._library
    con.register(
        "t",
        {
            "a": Cupy(library, np.arange(-250, 250, dtype=np.int32)),  # below zero in four bytes
            "b": Gaps(library, np.arange(1000)),
            "c": np.arange(500) * 3,  # on the host
            "d": Cupy(library, np.full(500, 2**64 - 1, np.uint64)),
            "e": Cupy(library, np.array([np.nan, *range(499)])),
        },
    )
    sql = "select sum(a), min(a), sum(b), sum(c), max(d), count(*) filter (e < 10), max(e) from t"
    assert str(con.sql(sql).fetchall()) == "[(-250, -250, 249500, 374250, 18446744073709551615, 10, nan)]"
    con.register("t", {"a": Cupy(library, np.zeros(0, np.int32))})
    assert con.sql("select count(*), sum(a) from t").fetchall() == [(0, None)]
    with pytest.raises(NotSupportedError, match="different lengths"):
        con.register("u", {"a": Cupy(library, np.zeros(3)), "b": np.zeros(4)})


@pytest.mark.parametrize("kind", ["mapped", "managed", "device"])
def test_registered_arrays_of_a_board(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Where the host reaches the memory nothing is copied; managed memory it may not touch while kernels run."""
    con, device = kernels(monkeypatch, ORIN)
    values = np.arange(1000, dtype=np.int64) * 5
    _, address = device._chip.allocate(kind, values.nbytes)
    at(address, 1000, "i8")[:] = values

    class There:
        __cuda_array_interface__ = {"shape": (1000,), "typestr": "<i8", "data": (address, False), "version": 3}

    con.register("t", {"x": There()})
    before = device.moved.total
    for _ in range(2):
        assert con.sql("select sum(x), max(x) from t where x > 100").fetchall() == [(2_497_500 - 1050, 4995)]
        assert device.moved.total - before == (0 if kind == "mapped" else 8000)


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
