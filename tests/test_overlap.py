"""Branches of a plan beside each other, by hand."""

from __future__ import annotations

import math

import pytest

from finequery.operators.context import CPU, GPU, Placement
from finequery.perfmodel.compose import Price
from finequery.planner.candidates import Candidate
from finequery.planner.overlap import Task, beside, elapsed


def cpu(seconds: float, along: bool = False, cores: float = 8.0, nbytes: float = 0.0) -> Task:
    return Task(seconds, nbytes, False, cores, along)


def gpu(seconds: float, along: bool = False, nbytes: float = 0.0) -> Task:
    return Task(seconds, nbytes, True, 0.0, along)


def test_one_after_another() -> None:
    assert elapsed([cpu(1), gpu(2), cpu(3)], [[], [], [0, 1]], 8, math.inf) == pytest.approx(6)
    assert elapsed([], [], 8, math.inf) == 0


def test_along_runs_beside_what_it_does_not_read() -> None:
    tasks = [gpu(2), cpu(3, along=True), gpu(1)]
    assert elapsed(tasks, [[], [], [0, 1]], 8, math.inf) == pytest.approx(4)  # waits for what it reads
    assert elapsed(tasks, [[], [], [0]], 8, math.inf) == pytest.approx(3)  # not for the one beside it
    assert elapsed([gpu(2), cpu(3, along=True)], [[], [0]], 8, math.inf) == pytest.approx(5)


def test_the_gpu_does_one_at_a_time() -> None:
    assert elapsed([gpu(2), gpu(3, along=True)], [[], []], 8, math.inf) == pytest.approx(5)


def test_cores_are_shared() -> None:
    assert elapsed([cpu(2), cpu(2, along=True)], [[], []], 8, math.inf) == pytest.approx(4)
    assert elapsed([cpu(2, cores=4), cpu(2, True, cores=4)], [[], []], 8, math.inf) == pytest.approx(2)
    # One core for the small one; the other has 7 of 8 for its time, then all: 1·7/8 + 1/8 left.
    assert elapsed([cpu(1), cpu(1, True, cores=1)], [[], []], 8, math.inf) == pytest.approx(1.125)


def test_memory_is_shared() -> None:
    # Each asks for 60 of 100: each gets 50, so both take 1.2.
    tasks = [gpu(1, nbytes=60.0), cpu(1, along=True, nbytes=60.0)]
    assert elapsed(tasks, [[], []], 8, 100.0) == pytest.approx(1.2)
    # Who asks for little is not slowed: the other gets 80 of its 100, and then all.
    tasks = [gpu(1, nbytes=100.0), cpu(1, along=True, nbytes=20.0)]
    assert elapsed(tasks, [[], []], 8, 100.0) == pytest.approx(1.2)


def test_moves_gain_or_are_not_made() -> None:
    def candidate(placement: Placement, seconds: float) -> Candidate:
        return Candidate(placement, Price(seconds, seconds, seconds))

    reads = [[], [], [0, 1]]
    singles = [[candidate(CPU, 5.0), candidate(GPU, 1.0)] for _ in range(3)]
    singles[1] = [candidate(CPU, 1.2), candidate(GPU, 1.0)]

    def took(choice: list[Candidate]) -> float:
        tasks = [
            Task(
                c.price.seconds, 0.0, c.placement.device == "gpu", float(c.placement.device == "cpu"), c.placement.along
            )
            for c in choice
        ]
        return elapsed(tasks, reads, 8, math.inf)

    start = [s[1] for s in singles]
    choice, seconds = beside(start, singles, reads, took)
    assert [c.placement.device for c in choice] == ["gpu", "cpu", "gpu"]
    assert choice[1].placement.along
    assert seconds == pytest.approx(2.2)
    singles[1] = [candidate(CPU, 9.0), candidate(GPU, 1.0)]
    start = [s[1] for s in singles]
    assert beside(start, singles, reads, took) == (start, pytest.approx(3.0))
