"""Blocks: no two share a byte, all are aligned, what is let go is used again, and all of it is counted."""

from __future__ import annotations

import gc
import itertools
import random
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fake_cuda import H100, ORIN, Library, install
from hypothesis import given, settings
from hypothesis import strategies as st

from finequery.errors import NotSupportedError, OutOfMemoryError
from finequery.jetson import accounts, memory
from finequery.jetson.slabs import Piece, Slab, Slabs
from finequery.operators.threads import parallel


class Source:
    """Slabs from the host, counted."""

    def __init__(self, most: int = 1 << 40) -> None:
        self.arrays: dict[int, np.ndarray] = {}
        self.most = most

    def obtain(self, nbytes: int) -> Slab:
        if sum(a.nbytes for a in self.arrays.values()) + nbytes > self.most:
            raise MemoryError
        array = np.empty(nbytes + 256, np.uint8)
        start = array.ctypes.data + -array.ctypes.data % 256
        self.arrays[start] = array
        return Slab(start, start, nbytes)

    def release(self, slab: Slab) -> None:
        del self.arrays[slab.host]


def check(slabs: Slabs, held: list[Piece], alignment: int) -> None:
    ranges = sorted((piece.device, piece.device + piece.nbytes) for piece in held)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    assert all(start % alignment == 0 for start, _ in ranges)
    assert slabs.free + sum(piece.nbytes for piece in held) == slabs.reserved


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5000)), max_size=60), st.sampled_from([64, 256]))
def test_slabs_give_each_byte_once(steps: list[tuple[bool, int]], alignment: int) -> None:
    source = Source()
    slabs = Slabs(source.obtain, source.release, alignment=alignment, slab=4096, keep=0)
    held: list[Piece] = []
    for take, number in steps:
        if take or not held:
            piece = slabs.take(number)
            assert piece.nbytes >= number
            held.append(piece)
        else:
            held.pop(number % len(held)).give()
        check(slabs, held, alignment)
    for piece in held:
        piece.give()
    slabs.trim()
    assert slabs.reserved == 0 and not source.arrays


def test_slabs_join_neighbours_and_reuse() -> None:
    source = Source()
    slabs = Slabs(source.obtain, source.release, slab=1 << 12, keep=1 << 12)
    pieces = [slabs.take(1024) for _ in range(4)]
    assert len(source.arrays) == 1 and all(piece.fresh for piece in pieces)
    pieces[1].give()
    pieces[2].give()
    joined = slabs.take(2048)  # fits only where both were
    assert len(source.arrays) == 1 and joined.start == 1024 and not joined.fresh
    big = slabs.take(10_000)  # a slab of its own
    assert len(source.arrays) == 2 and big.slab.nbytes == 10_048
    for piece in (joined, big, pieces[0], pieces[3]):
        piece.give()
    assert slabs.free == slabs.reserved
    slabs.take(1)
    slabs.trim(0)
    assert slabs.reserved == 1 << 12  # the one in use


def test_slabs_give_empty_ones_back_before_they_refuse() -> None:
    source = Source(most=8192)
    slabs = Slabs(source.obtain, source.release, slab=4096, keep=1 << 20)
    first = slabs.take(4096)
    first.give()
    piece = slabs.take(8192)  # only if the kept slab goes
    with pytest.raises(MemoryError):
        slabs.take(64)
    piece.give()
    assert slabs.take(64).slab.nbytes == 8192


def test_blocks_from_many_threads() -> None:
    source = Source()
    slabs = Slabs(source.obtain, source.release, slab=1 << 14, keep=0)
    failures: list[Any] = []

    def work(seed: int) -> None:
        random_, held = random.Random(seed), []
        for _ in range(300):
            if held and random_.random() < 0.5:
                piece, mark = held.pop(random_.randrange(len(held)))
                view = piece.slab.bytes[piece.start : piece.start + piece.nbytes]
                if not (view == mark).all():
                    failures.append(seed)
                piece.give()
            else:
                piece, mark = slabs.take(random_.randrange(1, 900)), random_.randrange(256)
                piece.slab.bytes[piece.start : piece.start + piece.nbytes] = mark
                held.append((piece, mark))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


KINDS = ("pageable", "mapped", "managed")


@pytest.mark.parametrize("kind", KINDS)
def test_random_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Library(ORIN))
    random_ = random.Random(kind)
    held: list[tuple[np.ndarray, int]] = []
    before = memory.live(kind)
    for step in range(300):
        if held and random_.random() < 0.45:
            array, mark = held.pop(random_.randrange(len(held)))
            assert (array == mark).all()
            view = array[array.size // 2 :]
            del array
            assert (view == mark).all()  # the view alone keeps the block
            del view
        else:
            array = memory.allocate(random_.choice([0, 1, 63, 64, 1000, 70_000, 1 << 20]), kind)
            assert type(array) is np.ndarray and (array.ctypes.data % 64 == 0 or not array.size)
            assert memory.kind_of(array) == kind
            array[...] = step % 251
            held.append((array, step % 251))
    array = None
    held.clear()
    gc.collect()
    assert memory.live(kind) == before
    memory.trim()
    assert kind == "pageable" or memory.slabs(kind).reserved == 0


def test_views_of_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Library(ORIN))
    column = memory.array(1000, np.int32, kind="mapped")
    column[:] = np.arange(1000)
    buffer = memory.arrow(column)
    assert buffer.address == column.ctypes.data
    address = memory.device_address(column[10:])
    assert address == memory.device_address(column) + 40
    again = np.frombuffer(buffer, np.int32)
    assert memory.device_address(again) == memory.device_address(column)  # also through Arrow
    assert memory.kind_of(again) == "mapped"
    kept = pa.Array.from_buffers(pa.int32(), 1000, [None, buffer])
    live = memory.live("mapped")
    del column, buffer, again
    gc.collect()
    assert memory.live("mapped") == live and kept[999].as_py() == 999
    del kept
    gc.collect()
    assert memory.live("mapped") < live
    assert memory.device_address(memory.array(5, np.int8, kind="pageable")) is None


def test_block_of_finds_the_owner_through_views() -> None:
    array = memory.array(100, np.int64)
    block = memory.block_of(array)
    assert block is not None and memory.block_of(array[3:].view(np.uint8)[::2]) is block
    assert memory.block_of(np.arange(3)) is None


def test_kinds_follow_use_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(ORIN)
    install(monkeypatch, library)
    assert memory.kind_for("table") == "device" and memory.kind_for("column") == "mapped"
    assert memory.kind_for("shared table") == "mapped"  # never managed: another connection's kernel may run
    assert "context" not in library.calls  # asking what there is starts nothing
    install(monkeypatch, Library(ORIN | {89: 1}))  # such as Thor
    assert memory.kind_for("shared table") == "managed"
    install(monkeypatch, Library(H100))
    assert {memory.kind_for(use) for use in memory.USES} == {"pageable", "mapped", "device"}  # never managed


def test_a_query_says_where_its_arrays_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(ORIN)
    install(monkeypatch, library)
    outside = memory.array(10, np.int8)
    assert memory.kind_of(outside) == "pageable" and "context" not in library.calls
    assert type(memory.block_of(memory.zeros(3, np.int8))) is type(None)
    with memory.accounting(memory.Account(shared="mapped")):
        kinds = parallel(lambda _: memory.kind_of(memory.array(10, np.int8)), range(4))  # in pool threads as well
        assert kinds == ["mapped"] * 4
        assert memory.kind_of(memory.array(10, np.int8, counted=False)) == "mapped"
        assert memory.kind_of(memory.array(10, np.int8, kind="pageable")) == "pageable"
        words = memory.zeros((2, 3), np.int64)
        assert memory.kind_of(words) == "mapped" and words.tolist() == [[0] * 3] * 2
        inside = memory.settled(outside)
        assert memory.kind_of(inside) == "mapped" and (inside == outside).all()
        assert memory.settled(inside[2:]).ctypes.data == inside.ctypes.data + 2
        assert memory.placed(inside) is inside and memory.kind_of(memory.placed(np.arange(3))) == "mapped"
    assert memory.settled(outside) is outside and memory.placed(outside) is outside
    assert memory.block_of(memory.placed(np.arange(3))) is not None  # a device could keep a copy
    assert memory.placed(np.arange(6).reshape(2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_device_memory_has_no_host_view(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FINEQUERY_CUDA", "NUMBA_ENABLE_CUDASIM"):  # the simulator has every kind
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NotSupportedError, match="needs a CUDA device"):
        memory.allocate(8, "device")
    with pytest.raises(ValueError):
        memory.allocate(8, "core")
    machine = install(monkeypatch, Library(H100, memory=256 << 20))
    with pytest.raises(NotSupportedError, match="DeviceBlock"):
        memory.allocate(8, "device")
    before = memory.live("device")
    blocks = [memory.DeviceBlock(1000) for _ in range(3)]
    assert all(block.address % 256 == 0 for block in blocks)
    assert memory.live("device") == before + 3000
    assert machine.library.calls.count("allocate device") == 1
    with pytest.raises(OutOfMemoryError, match="device memory: the driver refused"):
        memory.DeviceBlock(1 << 30)
    assert memory.live("device") == before + 3000
    del blocks
    assert memory.live("device") == before


def test_limit_covers_every_kind_of_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Library(ORIN))
    gc.collect()
    before, old = memory.live(), memory.limit()
    memory.set_limit(before + 3_000_000)
    try:
        held = [memory.allocate(1_000_000, kind) for kind in KINDS[:2]]
        with pytest.raises(OutOfMemoryError, match=r"host memory.*memory_limit"):
            memory.allocate(1_000_000, "managed")
        held.pop()
        held.append(memory.allocate(1_000_000, "managed"))
        accounts.unify()  # an integrated device's memory is main memory
        with pytest.raises(OutOfMemoryError, match=r"host memory.*memory_limit"):
            memory.DeviceBlock(1_000_000)
        with pytest.raises(OutOfMemoryError, match="a table"):
            memory.require(2_000_000, "a table")
    finally:
        memory.set_limit(old)


def test_accounts_by_query() -> None:
    account = memory.Account()
    with memory.accounting(account):
        held = memory.allocate(10_000)
        parts = parallel(lambda n: memory.allocate(n), [5_000, 6_000])  # in pool threads
    assert account.live["pageable"] == account.peak["pageable"] >= 21_000
    other = memory.allocate(50_000)
    assert account.live["pageable"] < 50_000
    del held, parts
    gc.collect()
    assert account.live["pageable"] == 0 and account.peak["pageable"] >= 21_000
    del other


@pytest.mark.skipif(memory.guards is not None, reason="guarded blocks are held back")
def test_freed_memory_of_large_blocks_is_kept() -> None:
    memory.trim()
    block = memory.allocate(3 << 20)
    address = block.ctypes.data
    del block
    assert memory.allocate(3 << 20).ctypes.data == address
