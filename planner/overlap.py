"""Branches of a placed plan beside each other: which pipelines run ``along``, and on which device then.

A plan whose pipelines run one after another leaves a device idle whenever one alone works. A pipeline that does not
read those before it can use it: small builds of dimension tables, say, run on the CPU while the GPU is at others.
``elapsed`` is what a plan takes when it is so run: the GPU does one pipeline at a time, in the order in which they are
ready; those of the CPU share its cores, and all share the memory, each by max-min fairness, as
perfmodel.compose.co_run has it. ``beside`` moves pipelines one by one while that gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from finequery.perfmodel.compose import fair_level
from finequery.planner.candidates import Candidate

#: What a move has to gain, as a share of the plan's time.
LEAST_GAIN = 0.002
#: Share of the time that has to be off the longest chain of pipelines for a search to be worth it.
LEAST_SLACK = 0.03


@dataclass(frozen=True, slots=True)
class Task:
    """A pipeline: seconds and bytes alone, whether it keeps the GPU busy, the cores that it takes, and whether it runs
    along."""

    seconds: float
    nbytes: float
    gpu: bool
    cores: float
    along: bool


def elapsed(tasks: Sequence[Task], reads: Sequence[Sequence[int]], cores: float, peak: float) -> float:
    """Seconds of a plan on so many cores and a memory of ``peak`` bytes a second. Task i waits for those it reads, and
    unless it runs along for the last one before it that does not."""
    waits: list[set[int]] = []
    last = -1
    for i, task in enumerate(tasks):
        needed = set(reads[i])
        if not task.along:
            if last >= 0:
                needed.add(last)
            last = i
        waits.append(needed)
    left = [max(task.seconds, 1e-12) for task in tasks]
    waiting, queue, running = list(range(len(tasks))), list[int](), list[int]()
    now = 0.0
    while True:
        ready = [i for i in waiting if not waits[i]]
        if ready:
            running += [i for i in ready if not tasks[i].gpu]
            queue += [i for i in ready if tasks[i].gpu]
            waiting = [i for i in waiting if waits[i]]
        if queue and not any(tasks[i].gpu for i in running):
            running.append(queue.pop(0))
        if not running:
            return now
        paces = _paces([tasks[i] for i in running], cores, peak) if len(running) > 1 else [1.0]
        step = min(left[i] / pace for i, pace in zip(running, paces))
        now += step
        ended = set()
        for i, pace in zip(running, paces):
            left[i] -= pace * step
            if left[i] <= 1e-9 * tasks[i].seconds + 1e-13:
                ended.add(i)
        running = [i for i in running if i not in ended]
        for needed in waits:
            needed -= ended


def _paces(tasks: Sequence[Task], cores: float, peak: float) -> list[float]:
    """Share of its own pace for each that runs."""
    level = fair_level([t.cores for t in tasks], cores)
    paces = [min(1.0, level / t.cores) if t.cores else 1.0 for t in tasks]
    needs = [t.nbytes / max(t.seconds, 1e-12) * pace for t, pace in zip(tasks, paces)]
    level = fair_level(needs, peak)
    return [pace * min(1.0, level / need) if need else pace for pace, need in zip(paces, needs)]


def beside(
    choice: Sequence[Candidate],
    singles: Sequence[Sequence[Candidate]],
    reads: Sequence[Sequence[int]],
    took: Callable[[Sequence[Candidate]], float],
) -> tuple[list[Candidate], float]:
    """A plan with pipelines moved beside others, and the seconds it takes. ``singles``: by pipeline, the candidates on
    one device; ``took``: seconds of a plan."""
    current, least = list(choice), took(choice)
    if least - _chain(current, reads) < LEAST_SLACK * least:
        return current, least
    for _ in range(2):
        before = least
        for place in range(1, len(current)):
            if place - 1 in reads[place]:
                continue
            for other in (*singles[place], current[place]):
                moved = replace(other, placement=replace(other.placement, along=True))
                if moved == current[place]:
                    continue
                trial = [*current[:place], moved, *current[place + 1 :]]
                seconds = took(trial)
                if seconds < least * (1.0 - LEAST_GAIN):
                    current, least = trial, seconds
        if least == before:
            break
    return current, least


def _chain(choice: Sequence[Candidate], reads: Sequence[Sequence[int]]) -> float:
    """Seconds of the longest chain of pipelines that read each other."""
    ends: list[float] = []
    for candidate, needed in zip(choice, reads):
        ends.append(candidate.price.seconds + max((ends[r] for r in needed), default=0.0))
    return max(ends, default=0.0)
