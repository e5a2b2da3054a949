"""The simulator: examples worked by hand, published figures, and what must hold for any plan."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finequery.errors import NotSupportedError
from finequery.jetson import board as boards
from finequery.jetson import costs
from finequery.jetson.board import Board
from finequery.jetson.costs import Costs, CpuEntry, GpuEntry, latency_ns
from finequery.jetson.simulator import ENGINES, Machine, Stage, Timeline, Touch, Work

GB, MB, MORSEL = 1e9, 1e6, costs.MORSEL
XAVIER, V100, H100 = boards.load("agx-xavier"), boards.load("v100"), boards.load("h100")


def changed(board: Board, **parts: dict[str, Any]) -> Board:
    """A board with other numbers: changed(b, cpu={"cores": 4})."""
    return dataclasses.replace(board, **{k: dataclasses.replace(getattr(board, k), **v) for k, v in parts.items()})


#: Round numbers. One core, a GPU and a copy engine, on a bus of 100 GB/s that the GPU and the cores can each fill.
TOY = changed(
    XAVIER,
    cpu={"cores": 4, "speed": 1.0, "vector_speed": 0.5, "thread_gbs": 25.0, "all_gbs": 100.0, "cached_gbs": 50.0}
    | {"l1_bytes": 1e3, "l2_bytes": 1e4, "l3_bytes": 1e5, "parallelism": 10.0}
    | {"l1_ns": 1.0, "l2_ns": 4.0, "l3_ns": 20.0, "memory_ns": 100.0},
    gpu={"sms": 1, "lanes": 100, "mhz": 1000.0, "l2_bytes": 1e6, "device_gbs": 100.0, "managed_gbs": 100.0}
    | {"mapped_gbs": 50.0, "cached_random": 10.0, "device_random": 1.0, "mapped_random": 0.5, "atomics": 1.0}
    | {"launch_us": 10.0, "sync_us": 20.0, "maintenance_us_per_mb": 2.0, "sector_bytes": 64.0},
    memory={"peak_gbs": 125.0, "shared_gbs": 100.0, "joules_per_gb": 0.1},
    link={"h2d_gbs": 10.0, "d2h_gbs": 20.0, "latency_us": 10.0, "duplex_gbs": 20.0, "joules_per_gb": 0.5},
    power={"idle_w": 5.0, "core_w": 1.0, "gpu_w": 10.0},
)
TABLE = Costs(
    cpu={
        "default": CpuEntry(0.0, 0.0, 0.0, 1.0, 0.0, 0.0),
        "work": CpuEntry(1.0, 2.0, 0.0, 1.0, 0.0, 0.0),
        "vector": CpuEntry(1.0, 0.0, 1.0, 1.0, 0.0, 0.0),
        "serial": CpuEntry(1.0, 0.0, 0.0, 1.0, 0.5, 0.0),
        "fixed": CpuEntry(1.0, 0.0, 0.0, 1.0, 0.0, 100.0),
        "look": CpuEntry(0.0, 0.0, 0.0, 1.0, 0.0, 0.0),
        "look:twice": CpuEntry(0.0, 0.0, 0.0, 2.0, 0.0, 0.0),
    },
    gpu={"default": GpuEntry(0.0, 0.0), "work": GpuEntry(10.0, 5.0)},
    cpu_overlap=0.5,
    gpu_overlap=0.5,
    reference_mhz=1000.0,
    sources={},
)


def toy(board: Board = TOY, **options: Any) -> Machine:
    return Machine(board, table=TABLE, **options)


def free(board: Board) -> Board:
    """Without what a launch and a copy cost at their start."""
    zeros = {"launch_us": 0.0, "sync_us": 0.0, "maintenance_us_per_mb": 0.0}
    return changed(board, gpu=zeros, link={"latency_us": 0.0})


def stream(nbytes: float, memory: str = "device") -> Work:
    return Work("copy", 1e9, 0, (Touch(nbytes, 8, memory=memory),))


# --- a piece of work alone ----------------------------------------------------------------------------------------


def test_computing_on_cores() -> None:
    """4M rows of 1 + 2 · 1 cycles at 1 GHz: 12 ms on one core, 3 ms on four; twice that at half the vector speed."""
    work = Work("work", 4 * MB, 1)
    assert toy().solo([work], "cpu", 1).seconds == pytest.approx(12e-3)
    assert toy().solo([work], "cpu").seconds == pytest.approx(3e-3)
    assert toy().solo([work], "cpu", 99).seconds == pytest.approx(3e-3)
    assert toy().solo([work], "cpu").compute_seconds == pytest.approx(12e-3)
    assert toy().solo([Work("vector", 4 * MB)], "cpu", 1).seconds == pytest.approx(8e-3)
    assert toy(changed(TOY, cpu={"speed": 0.5})).solo([work], "cpu", 1).seconds == pytest.approx(24e-3)


def test_a_serial_share_and_what_is_paid_once() -> None:
    assert toy().solo([Work("serial", 4 * MB)], "cpu").seconds == pytest.approx((0.5 + 0.5 / 4) * 4e-3)
    assert toy().solo([Work("fixed", 4 * MB)], "cpu").seconds == pytest.approx(1e-3 + 100e-6)


def test_few_rows_keep_few_threads_busy() -> None:
    cycles = 3e-9
    assert toy().solo([Work("work", 1000)], "cpu").seconds == pytest.approx(1000 * cycles)
    assert toy().solo([Work("work", MORSEL)], "cpu").seconds == pytest.approx(MORSEL * cycles)
    assert toy().solo([Work("work", 2 * MORSEL)], "cpu").seconds == pytest.approx(MORSEL * cycles)
    assert toy().solo([Work("work", 8 * MORSEL)], "cpu").seconds == pytest.approx(2 * MORSEL * cycles)


def test_streaming_and_computing_overlap_in_part() -> None:
    """3 ms of computing on four cores and 100 MB at 100 GB/s: 3 + 0.5 · 1 ms, and the other way round."""
    assert toy().solo([Work("work", 4 * MB, 1, (Touch(100 * MB),))], "cpu").seconds == pytest.approx(3.5e-3)
    assert toy().solo([Work("work", 4 * MB, 1, (Touch(500 * MB),))], "cpu").seconds == pytest.approx(6.5e-3)
    halves = [Work("work", 4 * MB, 0, (Touch(50 * MB),)), Work("work", 4 * MB, 0.5, (Touch(50 * MB),))]
    assert toy().solo(halves, "cpu").seconds == pytest.approx(3.5e-3), "a pipeline's works add up"


def test_streams_that_stay_in_cache() -> None:
    """50 MB out of 100 KB of L3 at 50 GB/s a thread do not reach the bus."""
    solo = toy().solo([Work("none", 4 * MB, 0, (Touch(50 * MB, working_set=1e5),))], "cpu")
    assert solo.seconds == pytest.approx(0.25e-3) and solo.memory_bytes == 0
    assert toy().solo([Work("none", 4 * MB, 0, (Touch(50 * MB, working_set=1e6),))], "cpu").memory_bytes == 50 * MB


def test_streams_of_a_pipeline_share_the_cache() -> None:
    """Two columns of 60 KB, read ten times, fit 100 KB of L3 one by one but not together; of 50 KB each, they do."""
    for size, moved in ((60e3, 2 * 10 * 60e3), (50e3, 0.0)):
        works = [Work("none", 4 * MB, 0, (Touch(10 * size, working_set=size),))] * 2
        solo = toy().solo(works, "cpu")
        assert solo.memory_bytes == moved
        assert solo.seconds == pytest.approx(2 * 10 * size / (100 * GB if moved else 200 * GB))
        assert toy().solo(works[:1], "cpu").memory_bytes == 0
    always = Work("none", 4 * MB, 0, (Touch(10e3),))  # of which nothing was used before
    assert toy().solo([*works, always], "cpu").memory_bytes == 10e3


def test_streams_of_a_pipeline_share_the_gpus_cache() -> None:
    """As above, of 1 MB of L2, which streams at twice the memory's 100 GB/s; mapped memory has no part in it."""
    for size, memory, moved in ((6e5, "device", 12e5), (5e5, "device", 0.0), (6e5, "mapped", 6e5)):
        works = [Work("none", MB, 0, (Touch(6e5, working_set=size, memory=m),)) for m in ("device", memory)]
        solo = toy().solo(works, "gpu")
        assert solo.memory_bytes == moved
        seconds = {"device": 12e5 / (100 * GB if moved else 200 * GB), "mapped": 6e5 / (200 * GB) + 6e5 / (50 * GB)}
        assert solo.seconds == pytest.approx(30e-6 + seconds[memory])


def test_latency_by_working_set() -> None:
    assert latency_ns(TOY.cpu, 0) == latency_ns(TOY.cpu, 1e3) == (1.0, 0.0)
    assert latency_ns(TOY.cpu, 2e3) == (pytest.approx(0.5 * 1 + 0.5 * 4), 0.0)
    assert latency_ns(TOY.cpu, 1e5) == (pytest.approx(0.01 * 1 + 0.09 * 4 + 0.9 * 20), 0.0)
    mean, missed = latency_ns(TOY.cpu, 1e6)
    assert missed == pytest.approx(0.9) and mean == pytest.approx(0.001 * 1 + 0.009 * 4 + 0.09 * 20 + 0.9 * 100)


def test_random_accesses_on_cores() -> None:
    """1M look-ups in 1 MB: 91.837 ns, ten at a time, four cores; 0.9 of them fetch 64 bytes."""
    look = Work("look", MB, 0, (Touch(8 * MB, 8, True, working_set=1e6),))
    solo = toy().solo([look], "cpu")
    assert solo.seconds == pytest.approx(MB * 91.837e-9 / 10 / 4)
    assert solo.memory_bytes == pytest.approx(0.9 * MB * 64)
    twice = toy().solo([dataclasses.replace(look, kind="look:twice")], "cpu")
    assert twice.seconds == pytest.approx(2 * solo.seconds) and twice.memory_bytes == solo.memory_bytes


def test_the_gpu_by_hand() -> None:
    """30 us to launch; 1M rows of 15 instructions on 100 lanes at 1 GHz: 150 us; half of what is shorter."""
    start, compute = 30e-6, 150e-6
    assert toy().solo([Work("work", MB)], "gpu").seconds == pytest.approx(start + compute)
    small = toy().solo([Work("work", 512)], "gpu").seconds
    assert small == pytest.approx(start + 1024 * 15 / 1e11), "rows that do not fill a multiprocessor"
    mapped = toy().solo([Work("work", MB, 1, (Touch(5 * MB, memory="mapped"),))], "gpu").seconds
    assert mapped == pytest.approx(start + compute + 0.5 * 100e-6)
    device = toy().solo([Work("work", MB, 1, (Touch(5 * MB, memory="device"),))], "gpu").seconds
    assert device == pytest.approx(start + compute + 0.5 * 50e-6)
    managed = toy().solo([Work("work", MB, 1, (Touch(5 * MB, memory="managed"),))], "gpu").seconds
    assert managed == pytest.approx(device + 5 * 2e-6), "maintenance of 5 MB"


@pytest.mark.parametrize(("table", "rate"), [(0, 1e9), (8, 1e9), (128, 4e9), (4096, 10e9)])
def test_atomics_wait_for_each_other(table: float, rate: float) -> None:
    """10M updates: one at a time in each 32 bytes of the table, until L2 does no more."""
    touches = (Touch(0, 8, True, True, table, "device"),) if table else ()
    work = Work("work", MB, touches=touches, atomics=10 * MB)
    assert toy().solo([work], "gpu").seconds == pytest.approx(30e-6 + 10 * MB / rate + 150e-6 / 2)


def test_random_accesses_on_the_gpu() -> None:
    """1M accesses to 2 MB, half of which L2 holds; past L2 where the memory is mapped."""

    def look(memory: str, working_set: float = 2e6) -> Work:
        return Work("none", MB, 0, (Touch(8 * MB, 8, True, working_set=working_set, memory=memory),))

    device = toy().solo([look("device")], "gpu")
    assert device.seconds == pytest.approx(30e-6 + MB * (0.5 / 10e9 + 0.5 / 1e9))
    assert device.memory_bytes == pytest.approx(0.5 * MB * 64)
    mapped = toy().solo([look("mapped")], "gpu")
    assert mapped.seconds == pytest.approx(30e-6 + MB / 0.5e9) and mapped.memory_bytes == MB * 64
    assert toy().solo([look("device", 1e5)], "gpu").memory_bytes == 0


def test_energy_by_hand() -> None:
    """4 cores for 3 ms at 5 + 4 W; the GPU for 1 ms at 5 + 10 W, and 0.1 J for a GB."""
    assert toy().solo([Work("work", 4 * MB)], "cpu").joules == pytest.approx(3e-3 * 9)
    assert toy(free(TOY)).solo([stream(100 * MB)], "gpu").joules == pytest.approx(1e-3 * 15 + 0.01)
    copy = toy(free(TOY)).run([Stage("copy", "h2d", nbytes=10 * MB)])
    assert copy.seconds == pytest.approx(1e-3) and copy.memory_bytes == 20 * MB, "read and written on the one bus"
    assert copy.joules == pytest.approx(1e-3 * 5 + 0.02 * 0.1 + 0.01 * 0.5)


def test_two_memories_and_a_link() -> None:
    """A discrete GPU reads mapped memory over the link, at the host's memory's cost too; its own memory is its own."""
    machine = Machine(V100)
    mapped = machine.run([Stage("a", "gpu", (stream(GB, "mapped"),))])
    assert mapped.seconds == pytest.approx(1 / 12.2, rel=0.01) and mapped.memory_bytes == GB
    both = machine.run([Stage("a", "gpu", (stream(GB, "mapped"),)), Stage("up", "h2d", nbytes=GB)])
    assert both.seconds == pytest.approx(2 / 12.2, rel=0.01), "a kernel and a copy share the link"
    cores = Stage("c", "cpu", (stream(10 * GB),))
    own = machine.run([cores, Stage("g", "gpu", (stream(80 * GB),))])
    alone = [machine.solo([stream(10 * GB)], "cpu").seconds, machine.solo([stream(80 * GB)], "gpu").seconds]
    assert sorted(span.end for span in own.spans) == pytest.approx(sorted(alone))
    assert own.utilisation == pytest.approx(90 / own.seconds / (128 + 897))


def test_what_the_gpu_does_not_do() -> None:
    with pytest.raises(NotSupportedError, match='board "host" has no GPU\nBoards with one: agx-orin'):
        Machine(boards.load("host")).solo([stream(1)], "gpu")
    with pytest.raises(NotSupportedError, match="has no GPU to copy"):
        Machine(boards.load("host")).run([Stage("copy", "h2d", nbytes=1)])
    for memory in ("pageable", "virtual"):
        with pytest.raises(NotSupportedError, match=f"the GPU does not reach {memory} memory"):
            toy().solo([stream(1, memory)], "gpu")
    with pytest.raises(ValueError, match="a device is cpu or gpu"):
        toy().solo([], "tpu")


def test_unknown_algorithms_fall_back() -> None:
    table = costs.load()
    assert costs.cpu_entry(table, "probe:none") is table.cpu["probe"]
    assert costs.cpu_entry(table, "none:none") is table.cpu["default"]
    assert costs.gpu_entry(table, "probe:hash") is table.gpu["probe:hash"]


# --- published figures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "threads", "gbs"),
    [("agx-xavier", 1, 21.571), ("agx-xavier", 2, 42.327), ("agx-xavier", 4, 71.983), ("agx-xavier", 8, 66.883)]
    + [("agx-orin", 1, 15.509), ("agx-orin", 8, 72.243), ("agx-orin", 12, 80.569)],
)
def test_stream_copy_on_cores(name: str, threads: int, gbs: float) -> None:
    """STREAM copy (GB/s). Between the ends of the curve the model is a straight line with a ceiling: within 12 %."""
    works = [Work("copy", 1e8, 0, (Touch(0.5 * GB), Touch(0.5 * GB, write=True)))]
    assert 1 / Machine(boards.load(name)).solo(works, "cpu", threads).seconds == pytest.approx(gbs, rel=0.12)


def test_device_to_device_copy() -> None:
    works = [Work("copy", 1e8, 0, (Touch(0.5 * GB, memory="device"), Touch(0.5 * GB, write=True, memory="device")))]
    assert 1 / Machine(XAVIER).solo(works, "gpu").seconds == pytest.approx(110.6, rel=0.01)


@pytest.mark.parametrize(("board", "h2d", "d2h"), [(XAVIER, 15.6, 28.9), (V100, 12.2, 12.9), (H100, 56.2, 56.8)])
def test_copies_over_the_link(board: Board, h2d: float, d2h: float) -> None:
    machine = Machine(board)
    assert 1 / machine.run([Stage("up", "h2d", nbytes=GB)]).seconds == pytest.approx(h2d, rel=0.01)
    assert 1 / machine.run([Stage("down", "d2h", nbytes=GB)]).seconds == pytest.approx(d2h, rel=0.01)


def test_copies_in_both_directions_at_once() -> None:
    """cuda-samples issue 357: 101 GB/s both ways on gen 5. With one engine, as on Xavier, they take turns."""
    both = [Stage("up", "h2d", nbytes=GB), Stage("down", "d2h", nbytes=GB)]
    assert 2 / Machine(H100).run(both).seconds == pytest.approx(101, rel=0.01)
    assert Machine(XAVIER).run(both).seconds == pytest.approx(1 / 15.6 + 1 / 28.9, rel=0.01)


# --- plans by hand --------------------------------------------------------------------------------------------------


def test_equal_demands_stretch_by_their_sum() -> None:
    """FineStream eq 1: Bsum / Bmax. Two that would each fill the bus take twice as long; energy is for all of it."""
    machine = toy(free(TOY))
    plan = machine.run([Stage("a", "cpu", (stream(100 * MB),)), Stage("b", "gpu", (stream(100 * MB),))])
    assert [span.end for span in plan.spans] == pytest.approx([2e-3, 2e-3])
    assert plan.utilisation == pytest.approx(0.8) and plan.memory_bytes == 200 * MB
    assert plan.joules == pytest.approx(2e-3 * (5 + 4 + 10) + 0.2 * 0.1) and plan.simulated


def test_small_demands_are_not_stretched() -> None:
    """The GPU asks for 100 of 100 GB/s, the cores for 20: they keep theirs, it gets 80 until they are through."""
    busy = Work("work", 4 * MB, 2, (Touch(100 * MB, working_set=0),))  # 5 ms computing and 1 ms streaming: 5.5 ms
    board = changed(free(TOY), cpu={"all_gbs": 100.0})
    alone = toy(board).solo([busy], "cpu")
    assert alone.seconds == pytest.approx(5.5e-3)
    asked = 100 * MB / 5.5e-3
    plan = toy(board).run([Stage("cpu", "cpu", (busy,)), Stage("gpu", "gpu", (stream(500 * MB),))])
    ends = {span.engine: span.end for span in plan.spans}
    assert ends["cpu"] == pytest.approx(5.5e-3)
    assert ends["gpu"] == pytest.approx(5.5e-3 + (500 * MB - (100 * GB - asked) * 5.5e-3) / (100 * GB))


def test_stages_share_cores() -> None:
    """Two that want four cores get two each; one that wants one keeps it."""
    four, one = Work("work", 4 * MB), Work("work", MB)
    plan = toy().run([Stage("a", "cpu", (four,)), Stage("b", "cpu", (four,))])
    assert [span.end for span in plan.spans] == pytest.approx([6e-3, 6e-3])
    plan = toy().run([Stage("a", "cpu", (four,)), Stage("b", "cpu", (one,), threads=1)])
    ends = {span.stage: span.end for span in plan.spans}
    assert ends[1] == pytest.approx(3e-3) and ends[0] == pytest.approx(3e-3 + (12e-3 - 3 * 3e-3) / 4)


def test_a_pipeline_of_two_engines() -> None:
    """FineStream eq 5: n · max(t1, t2) + min(t1, t2) for n batches of t1 = 1 ms and t2 = 0.5 ms and a free bus."""
    board = changed(free(TOY), memory={"shared_gbs": 1e4, "peak_gbs": 1e4})
    first = Stage("scan", "cpu", (Work("work", 16 * MB, 0),), batches=4)  # 16M rows: 4 ms on four cores
    second = Stage("sum", "gpu", (Work("work", 4 * MB / 3, 2, (Touch(1.0),)),), batches=4, follows=0)
    each = toy(board).run([dataclasses.replace(second, follows=None)]).seconds / 4
    plan = toy(board).run([first, second])
    assert plan.seconds == pytest.approx(4 * max(1e-3, each) + min(1e-3, each))
    starts = [span.start for span in plan.spans if span.stage == 1]
    assert starts == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3])


@pytest.mark.parametrize(("depth", "expected"), [(1, 4 * 3e-3), (2, 1e-3 + 4 * 2e-3), (4, 1e-3 + 4 * 2e-3)])
def test_bounded_buffers(depth: int, expected: float) -> None:
    """Batches of 1 ms, then 2 ms: with one buffer they take turns, with two they overlap."""
    first = Stage("a", "cpu", (Work("work", 16 * MB, 0),), batches=4)
    second = Stage("b", "gpu", (stream(800 * MB),), batches=4, follows=0, depth=depth)
    assert toy(free(TOY)).run([first, second]).seconds == pytest.approx(expected)


def test_copies_overlap_with_kernels() -> None:
    """A discrete GPU: eight batches of copies, each followed by a kernel, take the copies and the last kernel."""
    machine = Machine(V100)
    copy = Stage("up", "h2d", nbytes=GB, batches=8)
    kernel = Stage("sum", "gpu", (stream(GB),), batches=8, follows=0)
    apart = machine.run([copy]).seconds, machine.run([dataclasses.replace(kernel, follows=None)]).seconds
    together = machine.run([copy, kernel]).seconds
    assert together == pytest.approx(apart[0] + apart[1] / 8, rel=0.02) and together < sum(apart)


def test_order_and_fixed_times() -> None:
    stages = [
        Stage("a", "gpu", (stream(100 * MB),), fixed_seconds=1e-3, batches=2),
        Stage("b", "gpu", (stream(100 * MB),)),
        Stage("c", "cpu", after=(0, 1, 0)),
        Stage("d", "cpu", (Work("work", 4 * MB),), after=(2,)),
        Stage("e", "gpu", (stream(50 * MB),)),
    ]
    plan = toy(free(TOY)).run(stages)
    order = [(span.stage, span.batch) for span in plan.spans]
    assert order == [(0, 0), (1, 0), (4, 0), (0, 1), (2, 0), (3, 0)], "first come, first served"
    assert [span.end for span in plan.spans] == pytest.approx([1.5e-3, 2.5e-3, 3e-3, 3.5e-3, 3.5e-3, 6.5e-3])
    assert toy().run([]) == Timeline(0.0, 0.0, 0.0, 0, 0.0, [])


def test_load_by_others() -> None:
    """A GPU that is busy at 80 % takes five times as long and draws a fifth meanwhile; half the cores, half the bus."""
    alone = toy(free(TOY)).solo([stream(100 * MB)], "gpu")
    loaded = toy(free(TOY), load={"gpu": 0.8}).solo([stream(100 * MB)], "gpu")
    assert loaded.seconds == pytest.approx(5 * alone.seconds)
    assert loaded.joules - loaded.seconds * 5 == pytest.approx(alone.joules - alone.seconds * 5)
    assert toy(load={"cpu": 0.5}).solo([Work("work", 4 * MB)], "cpu").seconds == pytest.approx(6e-3)
    assert toy(free(TOY), load={"memory": 0.5}).solo([stream(100 * MB)], "gpu").seconds == pytest.approx(2e-3)
    for load in ({"gpu": 1.0}, {"gpu": -0.1}, {"tpu": 0.5}):
        with pytest.raises(ValueError, match="load is a share"):
            toy(load=load)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([Stage("a", "tpu")], "an engine is one of cpu, gpu, h2d, d2h"),
        ([Stage("a", "cpu", batches=0)], "at least 1"),
        ([Stage("a", "cpu", threads=0)], "at least 1"),
        ([Stage("a", "h2d", nbytes=-1)], "at least 0"),
        ([Stage("a", "cpu", after=(0,))], "waits for stage 0, which does not stand before it"),
        ([Stage("a", "cpu"), Stage("b", "gpu", batches=2, follows=0)], "another number of batches"),
        ([Stage("a", "h2d", (stream(1),))], "a copy has bytes, not works"),
        (
            [
                Stage("a", "cpu", batches=8),
                Stage("b", "cpu", after=(0,)),
                Stage("c", "gpu", batches=8, follows=0, after=(1,)),
            ],
            "the stages wait for each other: a, b, c",
        ),
    ],
)
def test_plans_that_cannot_run(stages: list[Stage], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy().run(stages)


# --- what holds for any plan ----------------------------------------------------------------------------------------

KINDS = sorted(set(costs.load().gpu) - {"default"})
BOARDS = ["agx-xavier", "agx-xavier:10W", "orin-nano", "v100", "h100"]
touches = st.builds(
    Touch,
    nbytes=st.floats(1, 1e9),
    width=st.sampled_from([1, 4, 8, 16, 200]),
    random=st.booleans(),
    write=st.booleans(),
    working_set=st.sampled_from([0.0, 1e3, 1e6, 1e9]),
    memory=st.sampled_from(["mapped", "managed", "device"]),
)
works = st.builds(
    Work,
    kind=st.sampled_from(KINDS),
    rows=st.floats(0, 1e8),
    steps=st.floats(0, 10),
    touches=st.lists(touches, max_size=3).map(tuple),
    atomics=st.floats(0, 1e8),
)
pipelines = st.lists(works, min_size=1, max_size=3).map(tuple)


@st.composite
def plans(draw: Any) -> list[Stage]:
    stages: list[Stage] = []
    for i in range(draw(st.integers(1, 6))):
        engine = draw(st.sampled_from(ENGINES))
        copy = engine in ("h2d", "d2h")
        batches, follows = draw(st.sampled_from([1, 3])), None
        alike = [j for j, stage in enumerate(stages) if stage.batches == batches]
        after: list[int] = draw(st.lists(st.integers(0, i - 1), max_size=2)) if i else []
        if alike and not after and draw(st.booleans()):
            follows = draw(st.sampled_from(alike))
        elif any(stage.follows is not None for stage in stages):
            after = []  # so that none waits for one that it holds back
        stages.append(
            Stage(
                f"s{i}",
                engine,
                () if copy else draw(pipelines),
                draw(st.floats(0, 1e9)) if copy else 0.0,
                tuple(after),
                batches,
                follows,
                draw(st.integers(1, 3)),
                draw(st.sampled_from([0.0, 1e-4])),
                draw(st.sampled_from([None, 1, 3])),
            )
        )
    return stages


@settings(max_examples=40, deadline=None)
@given(plans(), st.sampled_from(BOARDS))
def test_invariants(stages: list[Stage], name: str) -> None:
    board = boards.load(name)
    plan = Machine(board).run(stages)
    assert sorted((span.stage, span.batch) for span in plan.spans) == [
        (i, b) for i, stage in enumerate(stages) for b in range(stage.batches)
    ]
    # Energy and bytes: the parts are the whole.
    assert plan.joules == pytest.approx(plan.idle_joules + sum(span.joules for span in plan.spans))
    assert plan.idle_joules == pytest.approx(plan.seconds * board.power.idle_w)
    most = board.cpu.cores * board.power.core_w + board.power.gpu_w + board.power.idle_w
    moved = sum(stage.nbytes for stage in stages) + plan.memory_bytes
    per_byte = 0.5e-9  # above any board's for memory and link
    assert plan.joules <= plan.seconds * most + moved * per_byte
    # Never above what the memories give: in the whole, and in any stretch of it.
    capacity = (board.memory.shared_gbs + (board.gpu_memory.shared_gbs if board.gpu_memory else 0)) * 1e9
    for first, last in itertools.product(plan.spans, repeat=2):
        inside = [s for s in plan.spans if s.start >= first.start and s.end <= last.end]
        room = max(0.0, last.end - first.start) * capacity
        assert sum(s.nbytes for s in inside) <= room * (1 + 1e-6) + 1e-3
    assert 0 <= plan.utilisation <= 1
    # One at a time on the engines that serve one, in order everywhere.
    spans = {(s.stage, s.batch): s for s in plan.spans}
    for engine in ("gpu", "h2d", "d2h"):
        turns = sorted((s.start, s.end) for s in plan.spans if s.engine == engine)
        assert all(a[1] <= b[0] + 1e-12 for a, b in itertools.pairwise(turns))
    for (i, batch), span in spans.items():
        stage = stages[i]
        for j in stage.after:
            assert span.start >= spans[j, stages[j].batches - 1].end
        if stage.follows is not None:
            assert span.start >= spans[stage.follows, batch].end
            if batch + stage.depth < stage.batches:
                assert spans[stage.follows, batch + stage.depth].start >= span.end
    # No faster than any of it alone.
    for stage in stages:
        alone = Machine(board).run([dataclasses.replace(stage, after=(), follows=None)])
        assert plan.seconds >= alone.seconds * (1 - 1e-9)


@settings(max_examples=40, deadline=None)
@given(pipelines, pipelines, st.sampled_from(BOARDS))
def test_two_engines_at_once_are_no_slower_than_one_after_the_other(a: Any, b: Any, name: str) -> None:
    machine = Machine(boards.load(name))
    apart = machine.solo(a, "cpu").seconds + machine.solo(b, "gpu").seconds
    together = machine.run([Stage("a", "cpu", a), Stage("b", "gpu", b)]).seconds
    assert together <= apart * (1 + 1e-9)
    after = machine.run([Stage("a", "cpu", a), Stage("b", "gpu", b, after=(0,))]).seconds
    assert after == pytest.approx(apart)


@settings(max_examples=40, deadline=None)
@given(pipelines, st.sampled_from(BOARDS), st.sampled_from(["cpu", "gpu"]), st.floats(1, 4))
def test_more_work_takes_longer_and_more_bandwidth_less(a: Any, name: str, device: str, factor: float) -> None:
    board = boards.load(name)
    base = Machine(board).solo(a, device)
    more = tuple(
        dataclasses.replace(
            work,
            rows=work.rows * factor,
            atomics=work.atomics * factor,
            touches=tuple(dataclasses.replace(t, nbytes=t.nbytes * factor) for t in work.touches),
        )
        for work in a
    )
    slack = 1 - 1e-9
    assert Machine(board).solo(more, device).seconds >= base.seconds * slack
    assert Machine(board).solo((*a, *more), device).seconds >= base.seconds * slack
    memory = {"peak_gbs": board.memory.peak_gbs * factor, "shared_gbs": board.memory.shared_gbs * factor}
    faster = changed(board, memory=memory, cpu={"all_gbs": board.cpu.all_gbs * factor})
    assert Machine(faster).solo(a, device).seconds * slack <= base.seconds
    plan = [Stage("a", "cpu", a), Stage("b", "gpu", a)]
    assert Machine(faster).run(plan).seconds * slack <= Machine(board).run(plan).seconds
    assert Machine(board).run([Stage("a", device, a)]).seconds == pytest.approx(base.seconds)
    assert Machine(board).run([Stage("a", device, a)]).joules == pytest.approx(base.joules)


@settings(max_examples=20, deadline=None)
@given(plans(), st.integers(0, 2**32))
def test_the_seed_decides(stages: list[Stage], seed: int) -> None:
    def noisy() -> Machine:
        return Machine(XAVIER, seed=seed, noise=0.2)

    machine = noisy()
    first, second = machine.run(stages), machine.run(stages)
    assert first == noisy().run(stages), "the same machine anew gives the same"
    assert first.seconds != second.seconds or all(span.end == 0 for span in first.spans)
    assert Machine(XAVIER, seed=seed).run(stages) == Machine(XAVIER).run(stages)


def test_noise_is_centred() -> None:
    """The median factor of a lognormal is 1."""
    machine, quiet = toy(seed=1, noise=0.1), toy().solo([Work("work", 4 * MB)], "cpu").seconds
    factors = sorted(machine.solo([Work("work", 4 * MB)], "cpu").seconds / quiet for _ in range(501))
    assert factors[250] == pytest.approx(1, abs=0.03) and factors[420] == pytest.approx(1.1, abs=0.03)


def test_a_large_plan_is_fast() -> None:
    """Thirty stages of 64 batches: counted in the thread's own time, with room for a slow machine."""
    import time

    pipeline = (Work("filter", 1e7, 2, (Touch(4e7, 4),)), Work("probe:hash", 5e6, 1, (Touch(8e7, 16, True),)))
    stages = [Stage(f"s{i}", ENGINES[i % 2], pipeline, batches=64, follows=i - 1 if i % 2 else None) for i in range(30)]
    machine, best = Machine(XAVIER), float("inf")
    for _ in range(5):
        start = time.thread_time()
        plan = machine.run(stages)
        best = min(best, time.thread_time() - start)
    assert len(plan.spans) == 30 * 64
    assert best < 3
