"""Copies on a device that is not there: a fake driver keeps its memory on the host and records what is copied."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_cuda import H100, ORIN, Library, Machine, install

from finequery.errors import NotSupportedError, OutOfMemoryError
from finequery.jetson import accounts, gpu, memory, transfer

ROOT = Path(__file__).resolve().parent.parent


def column(values: Any, kind: str | None = None) -> np.ndarray:
    values = np.asarray(values)
    array = memory.array(values.size, values.dtype, kind=kind or memory.kind_for("column"))
    array[:] = values
    return array


@pytest.fixture(autouse=True)
def counted_alone() -> Iterator[None]:
    """Bytes are a new account's, not of a query that an earlier test left unfinished."""
    token = accounts.current.set(None)
    yield
    accounts.current.reset(token)


@pytest.fixture
def discrete(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return install(monkeypatch, Library(H100, late=True), limit=1 << 20)


@pytest.fixture
def integrated(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return install(monkeypatch, Library(ORIN, late=True))


def test_columns_are_copied_once_and_kept(discrete: Machine) -> None:
    device = discrete.open()
    first, second = column(np.arange(1000)), column(np.arange(500) * 3)
    with device.query() as account:
        one = device.view(first)
        assert one.ctypes.data != first.ctypes.data
        device.synchronise()
        assert (one == first).all()
        assert device.view(first) is one
        part = device.view(first[100:200])
        assert (part == first[100:200]).all()
        device.view(second)
    assert account.moved.to_device == 8000 + 4000 == device.moved.to_device == device.moved.total
    assert account.moved.transfers == 2
    with device.query() as later:
        assert device.view(first) is one
        assert device.view(first.view(np.uint32)).dtype == np.uint32
    assert later.moved.total == 0 and device.moved.transfers == 2


def test_large_columns_go_through_two_pinned_buffers(discrete: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STAGING", 1000)
    device = discrete.open()
    values = column(np.random.default_rng(1).integers(0, 255, 10_500).astype(np.uint8))
    seen = device.view(values)
    device.synchronise()
    assert (seen == values).all()
    assert discrete.library.copies == [("to device", 1000)] * 10 + [("to device", 500)]
    assert memory.slabs("mapped").free >= memory.slabs("mapped").reserved - 2 * 1100
    back = device.to_host(seen)
    assert (back == values).all() and back.ctypes.data != seen.ctypes.data
    assert device.moved.to_host == 10_500 and memory.kind_of(back) == "pageable"


def test_pinned_arrays_are_copied_from_where_they_are(discrete: Machine) -> None:
    device = discrete.open()
    values = column(np.arange(3_000_00, dtype=np.int16), "mapped")
    with device.query():
        seen = device.view(values)
        del values  # the device reads it still
        gc.collect()
        column(np.zeros(300_000, np.int16), "mapped")
        device.synchronise()
        assert (seen == np.arange(300_000, dtype=np.int16)).all()
    assert discrete.library.copies == [("to device", 600_000)]


def test_what_was_used_longest_ago_goes_first(discrete: Machine) -> None:
    device = discrete.open()  # 1 MiB of columns
    columns = [column(np.full(40_000, i)) for i in range(4)]  # 320,000 bytes each: three fit
    for i in (0, 1, 2, 0, 3):
        with device.query():
            device.view(columns[i])
    assert device.resident.nbytes <= 1 << 20
    moved = device.moved.transfers
    with device.query():
        for i in (0, 2, 3):
            device.view(columns[i])
        assert device.moved.transfers == moved
        with pytest.raises(OutOfMemoryError, match=r"device memory.*running queries"):
            device.view(columns[1])  # all others are pinned
    with device.query():
        again = device.view(columns[1])
        device.synchronise()
        assert (again == 1).all()
    assert device.moved.transfers == moved + 1


def test_evicted_arguments_stay_whole(discrete: Machine) -> None:
    device = discrete.open()
    first = column(np.full(100_000, 7))
    seen = device.view(first)
    for i in range(5):
        device.view(column(np.full(100_000, i)))
        device.synchronise()
    assert (seen == 7).all()  # evicted, but an argument holds it


def test_copies_end_with_their_block(discrete: Machine) -> None:
    device = discrete.open()
    values = column(np.arange(10_000))
    device.view(values[100:])
    assert device.resident.nbytes == 79_200 and memory.live("device") >= 79_200
    whole = device.view(values)  # takes the place of the part
    assert device.resident.nbytes == 80_000
    before = memory.live("device")
    del values, whole
    gc.collect()
    assert device.resident.nbytes == 0 and memory.live("device") == before - 80_000


def test_dropped_copies_are_made_anew(discrete: Machine) -> None:
    device = discrete.open()
    values = column(np.arange(10))
    device.view(values)
    values[:] = 5
    device.drop(values)
    seen = device.view(values)
    device.synchronise()
    assert (seen == 5).all()


def test_foreign_arrays_are_copied_each_time(discrete: Machine) -> None:
    device = discrete.open()
    values = np.arange(100)
    with device.query() as account:
        device.view(values)
        values[:] = 3
        seen = device.view(values)
        device.synchronise()
        assert (seen == 3).all()
    assert account.moved.transfers == 2 and device.resident.nbytes == 0
    with pytest.raises(ValueError, match="contiguous"):
        device.view(values[::2])


def test_results_that_came_from_the_device_need_not_go_back(discrete: Machine) -> None:
    device = discrete.open()
    result = device.zeros(100, np.float64)
    result[:] = 1.5  # a kernel
    host = device.to_host(result, keep=True)
    moved = device.moved.transfers
    assert (host == 1.5).all() and device.view(host) is result and device.moved.transfers == moved
    before = memory.live("device")
    del result
    assert memory.live("device") == before  # the copy of the host's array
    del host
    gc.collect()
    assert device.resident.nbytes == 0 and memory.live("device") == before - 800


def test_columns_make_room_for_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = install(monkeypatch, Library(H100, memory=96 << 20), limit=64 << 20)
    device = machine.open()
    held = [column(np.zeros(1 << 20, np.int64)) for _ in range(6)]
    for values in held:
        device.view(values)
    assert device.resident.nbytes == 48 << 20
    table = device.empty(3 << 20, np.int64, "table")
    assert device.resident.nbytes < 48 << 20
    with pytest.raises(OutOfMemoryError, match="device memory"):
        device.empty(1 << 30, np.int64)
    del table


def test_counters_are_read_without_a_copy(discrete: Machine) -> None:
    device = discrete.open()
    counters = device.zeros(4, np.int64, "counters")
    assert (device.to_host(counters) == 0).all()
    counters[2] = 9
    seen = device.to_host(counters[2:3])
    assert seen.tolist() == [9] and seen.ctypes.data == counters[2:].ctypes.data
    assert device.moved.total == 0
    address = counters.ctypes.data
    del counters
    gc.collect()
    assert seen[0] == 9 and memory.device_address(seen) == address + 16  # the view keeps the block


def test_nothing_is_copied_on_an_integrated_device(integrated: Machine) -> None:
    device = integrated.open()
    values = column(np.arange(10_000))  # mapped, as all columns there
    with device.query() as account:
        seen = device.view(values)
        assert seen.ctypes.data == values.ctypes.data and device.view(values) is seen
        assert device.view(values[5:]).ctypes.data == values.ctypes.data + 40
        result = device.empty(10_000, np.int64, "result")
        result[:] = seen * 2
        table = device.zeros(1000, np.int64, "table")
        host = device.to_host(result)
        assert host.ctypes.data == result.ctypes.data and type(host) is np.ndarray
        assert (host == values * 2).all()
    assert account.moved.total == device.moved.total == 0 and not integrated.library.copies
    assert account.live["mapped"] >= 80_000 and account.live["device"] == 8000
    del result
    gc.collect()
    assert (host == values * 2).all()
    del table
    assert memory.live("device") == 0 or account.live["device"] == 0


def test_arrays_in_use_by_kernels_are_not_given_out_again(integrated: Machine) -> None:
    device = integrated.open()
    values = column(np.arange(1000))
    address = values.ctypes.data
    device.view(values)
    del values
    other = column(np.arange(1000))
    assert other.ctypes.data != address
    device.synchronise()
    assert column(np.arange(1000)).ctypes.data == address


def test_pageable_arrays_on_an_integrated_device_are_counted(integrated: Machine) -> None:
    device = integrated.open()
    values = column(np.arange(1000), "pageable")
    with device.query() as account:
        seen = device.view(values)
        device.synchronise()
        assert (seen == values).all() and seen.ctypes.data != values.ctypes.data
    assert account.moved.to_device == 8000
    library = Library(ORIN | {88: 1})
    reached = Machine(library).open()  # such as Thor, whose kernels reach all of the host's memory
    assert reached.view(values).ctypes.data == values.ctypes.data and not library.copies


def test_launch_shapes(discrete: Machine, integrated: Machine) -> None:
    assert Machine(Library(H100)).open().launch_shape(10**9) == (132 * 8, 256)
    assert Machine(Library(ORIN)).open().launch_shape(10**9) == (16 * 6, 256)
    assert Machine(Library(ORIN)).open().launch_shape(300) == (2, 256)
    assert Machine(Library(ORIN)).open().launch_shape(0) == (1, 256)


def test_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEQUERY_CUDA", "off")
    from finequery.jetson import device

    device.probe.cache_clear()
    gpu.open_device.cache_clear()
    try:
        with pytest.raises(NotSupportedError, match="There is no GPU: FINEQUERY_CUDA=off"):
            gpu.open_device()
    finally:
        device.probe.cache_clear()


SIMULATED = """
import sys
import numpy as np
from finequery.jetson import cuda, device, gpu, memory

assert cuda.available()[0] and cuda.simulated() and device.probe().simulated and "numba" not in sys.modules
gpu_ = gpu.open_device()
kernels = cuda.cuda()

@kernels.jit
def add(values, sums):
    for i in range(kernels.grid(1), values.size, kernels.gridsize(1)):
        kernels.atomic.add(sums, 0, values[i])

values = memory.array(200, np.int64)
values[:] = np.arange(200)
assert memory.kind_of(values) == "pageable"
with gpu_.query() as account:
    seen = gpu_.view(values)
    assert seen is values
    for kind in ("counters", "table", "scratch", "mapped", "managed", "device"):
        sums = gpu_.zeros(1, np.int64, kind)
        blocks, threads = gpu_.launch_shape(values.size)
        add[blocks, threads, gpu_.stream](seen, sums)
        gpu_.synchronise()
        assert gpu_.to_host(sums).tolist() == [19900], kind
assert account.moved.total == gpu_.moved.total == 0
assert "simulator" in cuda.implementation()
print("done")
"""


def test_simulator() -> None:
    """Numba's simulator has to be chosen before Numba is imported: in a process of its own."""
    import os

    environment = {**os.environ, "FINEQUERY_CUDA": "simulator", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SIMULATED], env=environment, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("seed", range(3))
def test_random_views(discrete: Machine, seed: int) -> None:
    """Whatever is viewed, sliced, let go and computed: arguments hold the right values, within the limit."""
    random_ = np.random.default_rng(seed)
    device = discrete.open()
    before = memory.live("device")
    columns: list[np.ndarray] = []
    for step in range(150):
        with device.query() as account:
            action = random_.integers(5)
            if action == 0 or not columns:
                columns.append(column(random_.integers(0, 1000, random_.integers(1, 30_000))))
            elif action == 1:
                columns.pop(random_.integers(len(columns)))
            elif action == 2:
                values = columns[random_.integers(len(columns))]
                result = device.upload(values)
                result += step  # a kernel
                device.synchronise()
                columns.append(device.to_host(result, keep=True))
                assert (columns[-1] == values + step).all() or account.moved.to_device
            else:
                seen = []
                for _ in range(3):
                    values = columns[random_.integers(len(columns))]
                    start = random_.integers(values.size)
                    seen.append((values[start:], device.view(values[start:])))
                device.synchronise()
                for values, argument in seen:
                    assert (argument == values).all()
                del seen, argument
        assert device.resident.nbytes <= device.resident.limit
    columns.clear()
    del values, result
    gc.collect()
    assert device.resident.nbytes == 0 and memory.live("device") == before
