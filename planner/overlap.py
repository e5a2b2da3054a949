"""Branches of a placed plan beside each other: which pipelines run ``along``, and on which device then.

A plan whose pipelines run one after another leaves a device idle whenever one alone works. A pipeline that does not
read those before it can use it: small builds of dimension tables, say, run on the CPU while the GPU is at others.
``elapsed`` is what a plan takes when it is so run: the GPU does one pipeline at a time, in the order in which they are
ready, as do the engines that copy from and to a discrete one; what is on the CPU shares its cores, and all share the
memory, each by max-min fairness, as perfmodel.compose.co_run has it. ``beside`` moves pipelines one by one while that
gains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from finequery.perfmodel.compose import fair_level
from finequery.planner.candidates import Candidate

#: What a move has to gain, as a share of the plan's time.
LEAST_GAIN = 0.002
#: Share of the time that has to be off the longest chain of pipelines for a search to be worth it.
LEAST_SLACK = 0.03
#: What is done by one task at a time, as bits: the GPU, and the copies to and from a discrete one.
GPU, H2D, D2H = 1, 2, 4


class Task(NamedTuple):
    """A pipeline, or a copy: seconds and bytes alone, the engines that it keeps busy, the cores that it takes, and the
    tasks before it that it waits for."""

    seconds: float
    nbytes: float
    engines: int
    cores: float
    after: tuple[int, ...]


def elapsed(tasks: Sequence[Task], cores: float, peak: float) -> float:
    """Seconds of a plan on so many cores and a memory of ``peak`` bytes a second."""
    followers: list[list[int]] = [[] for _ in tasks]
    waits, left, queue = [], [], []
    for i, task in enumerate(tasks):
        before = set(task.after)
        for j in before:
            followers[j].append(i)
        waits.append(len(before))
        left.append(max(task.seconds, 1e-12))
        if not before:
            queue.append(i)
    running: list[int] = []
    busy, now = 0, 0.0
    while queue or running:
        held = []
        for i in queue:
            engines = tasks[i].engines
            if busy & engines:
                held.append(i)
            else:
                busy |= engines
                running.append(i)
        queue = held
        if len(running) == 1:
            paces, step = [1.0], left[running[0]]
        else:
            paces = _paces([tasks[i] for i in running], cores, peak)
            step = min([left[i] / pace for i, pace in zip(running, paces)])
        now += step
        on = []
        for i, pace in zip(running, paces):
            left[i] -= pace * step
            if left[i] > 1e-9 * tasks[i].seconds + 1e-13:
                on.append(i)
                continue
            busy &= ~tasks[i].engines
            for j in followers[i]:
                waits[j] -= 1
                if not waits[j]:
                    queue.append(j)
        running = on
    return now


def _paces(tasks: Sequence[Task], cores: float, peak: float) -> list[float]:
    """Share of its own pace for each that runs."""
    paces = [1.0] * len(tasks)
    if sum([t.cores for t in tasks]) > cores:
        level = fair_level([t.cores for t in tasks], cores)
        paces = [min(1.0, level / t.cores) if t.cores else 1.0 for t in tasks]
    needs = [t.nbytes / t.seconds * pace if t.nbytes else 0.0 for t, pace in zip(tasks, paces)]
    if sum(needs) > peak:
        level = fair_level(needs, peak)
        paces = [pace * min(1.0, level / need) if need else pace for pace, need in zip(paces, needs)]
    return paces


def beside(
    choice: Sequence[Candidate],
    ways: Sequence[Sequence[Candidate]],
    reads: Sequence[Sequence[int]],
    took: Callable[[Sequence[Candidate]], float],
    moves: Sequence[Mapping[int, Candidate]] = (),
) -> tuple[list[Candidate], float]:
    """A plan with pipelines moved beside others, and the seconds it takes. ``ways``: by pipeline, other ways to run
    it; ``took``: seconds of a plan; ``moves``: pipelines that are tried to be moved together."""
    current, least = list(choice), took(choice)
    if least - _chain(current, reads) < LEAST_SLACK * least:
        return current, least
    for _ in range(2):
        before = least
        for move in moves:
            trial = [move.get(place, c) for place, c in enumerate(current)]
            if trial != current:
                seconds = took(trial)
                if seconds < least * (1.0 - LEAST_GAIN):
                    current, least = trial, seconds
        for place, found in enumerate(ways):
            others = [*found, current[place]] if may_run_along(place, reads) else found
            for other in others:
                if other is current[place]:
                    other = replace(other, placement=replace(other.placement, along=True))
                if other == current[place] or other.price.seconds >= least:
                    continue
                trial = [*current[:place], other, *current[place + 1 :]]
                seconds = took(trial)
                if seconds < least * (1.0 - LEAST_GAIN):
                    current, least = trial, seconds
        if least == before:
            break
    return current, least


def may_run_along(place: int, reads: Sequence[Sequence[int]]) -> bool:
    """Whether a pipeline has one before it that it can run beside."""
    return place > 0 and place - 1 not in reads[place]


def _chain(choice: Sequence[Candidate], reads: Sequence[Sequence[int]]) -> float:
    """Seconds of the longest chain of pipelines that read each other."""
    ends: list[float] = []
    for candidate, needed in zip(choice, reads):
        ends.append(candidate.price.seconds + max((ends[r] for r in needed), default=0.0))
    return max(ends, default=0.0)
