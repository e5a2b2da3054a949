"""Branches of a plan beside each other, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from finequery.operators.context import CPU, GPU, Placement
from finequery.perfmodel.compose import Price
from finequery.planner import overlap
from finequery.planner.candidates import Candidate
from finequery.planner.overlap import Task, beside, elapsed


def cpu(seconds: float, *after: int, cores: float = 8.0, nbytes: float = 0.0) -> Task:
    return Task(seconds, nbytes, 0, cores, after)


def gpu(seconds: float, *after: int, nbytes: float = 0.0) -> Task:
    return Task(seconds, nbytes, overlap.GPU, 0.0, after)


def test_one_after_another() -> None:
    assert elapsed([cpu(1), gpu(2, 0), cpu(3, 0, 1)], 8, math.inf) == pytest.approx(6)
    assert elapsed([], 8, math.inf) == 0


def test_what_does_not_wait_runs_beside() -> None:
    assert elapsed([gpu(2), cpu(3), gpu(1, 0, 1)], 8, math.inf) == pytest.approx(4)
    assert elapsed([gpu(2), cpu(3), gpu(1, 0)], 8, math.inf) == pytest.approx(3)
    assert elapsed([gpu(2), cpu(3, 0)], 8, math.inf) == pytest.approx(5)


def test_the_gpu_does_one_at_a_time() -> None:
    assert elapsed([gpu(2), gpu(3)], 8, math.inf) == pytest.approx(5)


@pytest.mark.parametrize(("engines", "seconds"), [((overlap.H2D, overlap.D2H), 6), ((overlap.H2D,) * 2, 8)])
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


def test_moves_gain_or_are_not_made() -> None:
    def candidate(placement: Placement, seconds: float) -> Candidate:
        return Candidate(placement, Price(seconds, seconds, seconds))

    def along(found: list[Candidate]) -> list[Candidate]:
        return [replace(c, placement=replace(c.placement, along=True)) for c in found]

    reads = [[], [], [0, 1]]
    singles = [[candidate(CPU, 5.0), candidate(GPU, 1.0)] for _ in range(3)]
    singles[1] = [candidate(CPU, 1.2), candidate(GPU, 1.0)]

    def took(choice: list[Candidate]) -> float:
        tasks, last = [], []
        for place, c in enumerate(choice):
            after = (*reads[place], *([] if c.placement.along else last))
            made = gpu if c.placement.device == "gpu" else cpu
            tasks.append(made(c.price.seconds, *after))
            last = last if c.placement.along else [place]
        return elapsed(tasks, 8, math.inf)

    start = [s[1] for s in singles]
    choice, seconds = beside(start, [[], along(singles[1]), []], reads, took)
    assert [c.placement.device for c in choice] == ["gpu", "cpu", "gpu"]
    assert choice[1].placement.along
    assert seconds == pytest.approx(2.2)
    singles[1] = [candidate(CPU, 9.0), candidate(GPU, 1.0)]
    start = [s[1] for s in singles]
    assert beside(start, [[], along(singles[1]), []], reads, took) == (start, pytest.approx(3.0))
