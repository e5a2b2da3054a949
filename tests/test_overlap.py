"""Branches of a plan beside each other, by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np
import pytest

from finequery.operators import native
from finequery.operators.primitives.price_layout import D2H, GPU, H2D, OPTION, beside_scratch
from finequery.perfmodel.compose import fair_level
from finequery.planner.placement import LEAST_GAIN, ROUNDS


class Task(NamedTuple):
    """A pipeline, or a copy: seconds and bytes alone, the engines that it keeps busy (``GPU``, ``H2D``, ``D2H``), the
    cores that it takes, and the tasks before it that it waits for."""

    seconds: float
    nbytes: float
    engines: int
    cores: float
    after: tuple[int, ...]


class Way(NamedTuple):
    """A way to run a pipeline, as price_layout.OPTION has it."""

    seconds: float
    nbytes: float
    cores: float
    needs: int
    held: int
    copying: float = 0.0
    once: float = 0.0
    pieces: int = 1


class Machine(NamedTuple):
    """What pipelines share: cores, and a memory of so many bytes a second. ``copies``: a discrete board's seconds of
    copying each pipeline's result to the CPU and to the GPU; ``one_engine``: copies of both directions take turns."""

    cores: float
    peak: float
    copies: Sequence[tuple[float, float]] | None = None
    one_engine: bool = False


class Beside(NamedTuple):
    """What a search found: the way of each pipeline, whether it runs along, seconds, and the plans looked at."""

    chosen: list[int]
    along: list[bool]
    seconds: float
    looked: int


def elapsed(tasks: Sequence[Task], cores: float, peak: float) -> float:
    """Seconds of tasks by the kernel ``run_tasks``."""
    after = [sorted(set(task.after)) for task in tasks]
    table, out = np.array([task[:4] for task in tasks], np.float64), np.empty(1)
    starts, flat = flattened(after)
    scratch = np.empty(8 * len(tasks) + 2 * len(flat))
    limits = np.array([cores, peak])
    native.run(
        "run_tasks", table.ctypes.data, starts.ctypes.data, flat.ctypes.data, limits.ctypes.data, scratch.ctypes.data,
        out.ctypes.data, n=len(tasks),
    )  # fmt: skip
    return float(out[0])


def beside(
    ways: Sequence[Way],
    starts: Sequence[tuple[Sequence[int], Sequence[bool]]],
    moves: Sequence[Sequence[tuple[int, int, bool]]],
    reads: Sequence[Sequence[int]],
    handed: Sequence[Sequence[float]],
    machine: Machine,
) -> Beside:
    """The best of plans by the kernel ``run_beside``, each search beginning with one of ``starts``."""
    count, discrete = len(reads), machine.copies is not None
    together = [move for move in moves if len(move) > 1]
    moves = [*together, *(move for move in moves if len(move) == 1)]
    table = np.fromiter(chain.from_iterable(ways), np.float64, len(ways) * len(OPTION))
    begin, read = flattened(reads)
    first = np.array([0, *accumulate(map(len, moves))], np.int64)
    change = np.fromiter(chain.from_iterable(chain.from_iterable(moves)), np.int64)
    hand = np.fromiter(chain.from_iterable(handed), np.float64)
    copies = np.array(machine.copies if machine.copies is not None else (), np.float64)
    limits = np.array([machine.cores, machine.peak, LEAST_GAIN, float(discrete), float(machine.one_engine)])
    scratch, out = np.empty(beside_scratch(count, len(read))), np.empty(len(starts))
    chosen, along = (np.array(each, np.int64) for each in zip(*starts))
    looked = native.run(
        "run_beside", table.ctypes.data, chosen.ctypes.data, along.ctypes.data, read.ctypes.data, begin.ctypes.data,
        hand.ctypes.data, copies.ctypes.data, change.ctypes.data, first.ctypes.data, len(moves), len(together),
        limits.ctypes.data, scratch.ctypes.data, out.ctypes.data, len(starts), n=count, k=ROUNDS,
    )  # fmt: skip
    best = int(out.argmin())
    return Beside(chosen[best].tolist(), along[best].astype(bool).tolist(), float(out[best]), looked)


def flattened(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Where each list starts in all of them one after another, and these."""
    return np.array([0, *accumulate(map(len, lists))], np.int64), np.array([*chain.from_iterable(lists)], np.int64)


def cpu(seconds: float, *after: int, cores: float = 8.0, nbytes: float = 0.0) -> Task:
    return Task(seconds, nbytes, 0, cores, after)


def gpu(seconds: float, *after: int, nbytes: float = 0.0) -> Task:
    return Task(seconds, nbytes, GPU, 0.0, after)


def test_one_after_another() -> None:
    assert elapsed([cpu(1), gpu(2, 0), cpu(3, 0, 1)], 8, math.inf) == pytest.approx(6)
    assert elapsed([], 8, math.inf) == 0


def test_what_does_not_wait_runs_beside() -> None:
    assert elapsed([gpu(2), cpu(3), gpu(1, 0, 1)], 8, math.inf) == pytest.approx(4)
    assert elapsed([gpu(2), cpu(3), gpu(1, 0)], 8, math.inf) == pytest.approx(3)
    assert elapsed([gpu(2), cpu(3, 0)], 8, math.inf) == pytest.approx(5)


def test_the_gpu_does_one_at_a_time() -> None:
    assert elapsed([gpu(2), gpu(3)], 8, math.inf) == pytest.approx(5)


@pytest.mark.parametrize(("engines", "seconds"), [((H2D, D2H), 6), ((H2D,) * 2, 8)])
def test_copies_run_beside_all_but_copies_the_same_way(engines: tuple[int, int], seconds: float) -> None:
    copies = [Task(s, 0.0, engine, 0.0, ()) for s, engine in zip((2, 4), engines)]
    assert elapsed([*copies, gpu(5), gpu(1, 0), cpu(2, 1)], 8, math.inf) == pytest.approx(seconds)


def test_cores_are_shared() -> None:
    assert elapsed([cpu(2), cpu(2)], 8, math.inf) == pytest.approx(4)
    assert elapsed([cpu(2, cores=4), cpu(2, cores=4)], 8, math.inf) == pytest.approx(2)
    # One core for the small one; the other has 7 of 8 for its time, then all: 1·7/8 + 1/8 left.
    assert elapsed([cpu(1), cpu(1, cores=1)], 8, math.inf) == pytest.approx(1.125)


def test_memory_is_shared() -> None:
    # Each asks for 60 of 100: each gets 50, so both take 1.2.
    assert elapsed([gpu(1, nbytes=60.0), cpu(1, nbytes=60.0)], 8, 100.0) == pytest.approx(1.2)
    # Who asks for little is not slowed: the other gets 80 of its 100, and then all.
    assert elapsed([gpu(1, nbytes=100.0), cpu(1, nbytes=20.0)], 8, 100.0) == pytest.approx(1.2)


def way(device: int, seconds: float, nbytes: float = 0.0, copying: float = 0.0) -> Way:
    return Way(seconds, nbytes, 8.0, device, int(device == 1), copying)


def test_moves_gain_or_are_not_made() -> None:
    machine, handed = Machine(8, math.inf), [[0.0] * 6, [0.0] * 6]
    reads = [[], [], [0, 1]]
    moves = [[(1, 3, True)], [(1, -1, True)]]  # the second pipeline: on the CPU beside the first, or as it is
    ways = [way(1, 1.0), way(1, 1.0), way(1, 1.0), way(0, 1.2)]
    found = beside(ways, [([0, 1, 2], [False] * 3)], moves, reads, handed, machine)
    assert found.chosen == [0, 3, 2] and found.along == [False, True, False]
    assert found.seconds == pytest.approx(2.2)
    ways[3] = way(0, 9.0)
    found = beside(ways, [([0, 1, 2], [False] * 3)], moves, reads, handed, machine)
    assert found.chosen == [0, 1, 2] and not any(found.along) and found.seconds == pytest.approx(3.0)
    # The plan, and beside it only the GPU behind itself: what takes longer than the plan by itself is not looked at.
    assert found.looked == 2


def test_moves_together() -> None:
    """Two pipelines on the GPU, the second of which reads the first: each alone on the CPU has results copied to and
    fro, both together have not."""
    copies = [(10.0, 10.0), (0.0, 0.0)]
    ways = [way(1, 3.0), way(1, 3.0), way(0, 1.0), way(0, 1.0)]
    alone = [[(0, 2, False)], [(1, 3, False)]]
    both = [(0, 2, False), (1, 3, False)]
    reads, handed, machine = [[], [0]], [[0.0] * 6], Machine(8, math.inf, copies)
    found = beside(ways, [([0, 1], [False] * 2)], alone, reads, handed, machine)
    assert found.chosen == [0, 1] and found.seconds == pytest.approx(6.0)
    found = beside(ways, [([0, 1], [False] * 2)], [*alone, both], reads, handed, machine)
    assert found.chosen == [2, 3] and found.seconds == pytest.approx(2.0)


def test_the_best_of_several_starts() -> None:
    """What no single move reaches is where a search may begin."""
    ways = [way(1, 3.0), way(1, 3.0), way(0, 1.0), way(0, 1.0)]
    reads, handed, machine = [[], [0]], [[0.0] * 6], Machine(8, math.inf, [(10.0, 10.0), (0.0, 0.0)])
    starts = [([0, 1], [False] * 2), ([2, 3], [False] * 2)]
    found = beside(ways, starts, (), reads, handed, machine)
    assert found.chosen == [2, 3] and found.seconds == pytest.approx(2.0) and found.looked == 2


# --- against plain loops ----------------------------------------------------------------------------------------------


def run_by_hand(tasks: Sequence[Task], cores: float, peak: float) -> float:
    """What ``elapsed`` says, as its module does."""
    left = [max(task.seconds, 1e-12) for task in tasks]
    done: set[int] = set()
    queue = [i for i, task in enumerate(tasks) if not task.after]
    running: list[int] = []
    now = 0.0
    while queue or running:
        for i in [*queue]:
            if not any(tasks[i].engines & tasks[j].engines for j in running):
                queue.remove(i)
                running.append(i)
        level = fair_level([tasks[i].cores for i in running], cores)
        pace = [min(1.0, level / tasks[i].cores) if tasks[i].cores else 1.0 for i in running]
        needs = [tasks[i].nbytes / tasks[i].seconds * p for i, p in zip(running, pace)]
        level = fair_level(needs, peak)
        pace = [p * min(1.0, level / need) if need else p for p, need in zip(pace, needs)]
        pace = pace if len(running) > 1 else [1.0]  # its own pace is what it is alone
        step = min(left[i] / p for i, p in zip(running, pace))
        now += step
        ended = []
        for i, p in zip(running, pace):
            left[i] -= p * step
            if left[i] <= 1e-9 * tasks[i].seconds + 1e-13:
                ended.append(i)
        for i in ended:
            running.remove(i)
            done.add(i)
            queue += [j for j, t in enumerate(tasks) if i in t.after and done.issuperset(t.after)]
    return now


def plan_by_hand(
    ways: Sequence[Way],
    along: Sequence[bool],
    reads: Sequence[Sequence[int]],
    handed: Sequence[Sequence[float]],
    machine: Machine,
) -> float:
    """A plan as tasks: copies of results once for each device, of columns before their pipeline."""
    tasks: list[Task] = []
    ends: list[int] = []
    copies: dict[tuple[int, int], int] = {}
    last: list[int] = []
    waits = iter(handed)

    def copied(read: int, to: int) -> int:
        if (read, to) not in copies:
            copies[read, to] = len(tasks)
            assert machine.copies is not None
            engine = H2D if to == 1 or machine.one_engine else D2H
            tasks.append(Task(machine.copies[read][to], 0.0, engine, 0.0, (ends[read],)))
        return copies[read, to]

    for place, w in enumerate(ways):
        after, seconds = {ends[r] for r in reads[place]} | ({*last} if not along[place] else set()), w.seconds
        for r in reads[place]:
            seconds += next(waits)[2 * w.needs + ways[r].held] if machine.copies is None else 0.0
            if machine.copies is not None and w.needs in (1 - ways[r].held, 2):
                after.add(copied(r, 1 - ways[r].held))
        for _ in range(w.pieces if w.copying else 0):
            tasks.append(Task(w.copying / w.pieces, 0.0, H2D, 0.0, tuple(after)))
            after, seconds = {len(tasks) - 1}, seconds - w.copying / w.pieces
        ends.append(len(tasks))
        engines, cores = GPU if w.needs else 0, 0.0
        if w.needs != 1:  # while the host prepares it, others have the cores
            cores = w.cores * max(1.0 - w.once / seconds, 0.05)
        tasks.append(Task(seconds, w.nbytes, engines, cores, tuple(after)))
        last = last if along[place] else [ends[-1]]
    if machine.copies is not None and ways[-1].held:
        copied(len(ways) - 1, 0)
    return run_by_hand(tasks, machine.cores, machine.peak)


@pytest.mark.parametrize("seed", range(8))
def test_tasks_run_as_plain_loops_say(seed: int) -> None:
    rng = random.Random(seed)
    for count in (1, 2, 5, 12):
        tasks = [
            Task(
                rng.uniform(0.1, 3.0),
                rng.choice([0.0, 20.0, 200.0]),
                rng.choice([0, 0, GPU, H2D, D2H]),
                rng.choice([0.0, 1.0, 8.0]),
                tuple(j for j in range(i) if rng.random() < 0.3),
            )
            for i in range(count)
        ]
        assert elapsed(tasks, 8, 100.0) == pytest.approx(run_by_hand(tasks, 8, 100.0))


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_plans_are_the_tasks_that_plain_loops_make(seed: int, discrete: bool) -> None:
    rng = random.Random(seed)
    for count in (1, 3, 9):
        reads = [sorted({j for j in range(i) if rng.random() < 0.4}) for i in range(count)]
        handed = [[0.0, *(rng.uniform(0.0, 0.5) for _ in range(2)), 0.0, 0.0, 0.0] for r in reads for _ in r]
        copies = [(rng.uniform(0.0, 1.0), rng.uniform(0.0, 1.0)) for _ in range(count)] if discrete else None
        machine = Machine(8, 100.0, copies, rng.random() < 0.5)
        ways = []
        for _ in range(count):
            needs, seconds = rng.randrange(3), rng.uniform(0.1, 3.0)
            copying = rng.choice([0.0, seconds / 2]) if discrete and needs == 1 else 0.0
            held = needs if needs < 2 else rng.randrange(2)
            cores, once = rng.choice([1.0, 8.0]), rng.choice([0.0, 0.2])
            ways.append(Way(seconds, rng.choice([0.0, 100.0]), cores, needs, held, copying, once, rng.choice([1, 8])))
        along = [i > 0 and rng.random() < 0.4 for i in range(count)]
        found = beside(ways, [(range(count), along)], (), reads, handed, machine)
        assert found.seconds == pytest.approx(plan_by_hand(ways, along, reads, handed, machine))
        assert found.chosen == [*range(count)] and found.along == along and found.looked == 1
