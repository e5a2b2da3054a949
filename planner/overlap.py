"""Branches of a placed plan beside each other: which pipelines run ``along``, and on which device then.

A plan whose pipelines run one after another leaves a device idle whenever one alone works. A pipeline that does not
read those before it can use it: small builds of dimension tables, say, run on the CPU while the GPU is at others.
``elapsed`` is what a plan takes when it is so run: a device does one pipeline at a time, in the order in which they
are ready; two that run at once share the memory as perfmodel.compose.co_run has it. ``beside`` moves pipelines one by
one while that gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from finequery.planner.candidates import Candidate

#: What a move has to gain, as a share of the plan's time.
LEAST_GAIN = 0.002
#: Share of the time that has to be off the longest chain of pipelines for a search to be worth it.
LEAST_SLACK = 0.03


@dataclass(frozen=True, slots=True)
class Task:
    """A pipeline: seconds and bytes alone, the devices it keeps busy, and whether it runs along."""

    seconds: float
    nbytes: float
    devices: tuple[str, ...]
    along: bool


def elapsed(tasks: Sequence[Task], reads: Sequence[Sequence[int]], peak: float) -> float:
    """Seconds of a plan on a memory of ``peak`` bytes a second. Task i waits for those it reads, and unless it runs
    along for the last one before it that does not."""
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
            queue += ready
            waiting = [i for i in waiting if waits[i]]
        busy = {device for i in running for device in tasks[i].devices}
        for i in list(queue):
            if busy.isdisjoint(tasks[i].devices):
                running.append(i)
                queue.remove(i)
            busy.update(tasks[i].devices)  # nobody overtakes
        if not running:
            return now
        paces = _paces([tasks[i].nbytes / max(tasks[i].seconds, 1e-12) for i in running], peak)
        step = min(left[i] / pace for i, pace in zip(running, paces))
        now += step
        for i, pace in zip(running, paces):
            left[i] -= pace * step
        ended = {i for i in running if left[i] <= 1e-9 * tasks[i].seconds + 1e-13}
        running = [i for i in running if i not in ended]
        for needed in waits:
            needed -= ended


def _paces(needs: list[float], peak: float) -> list[float]:
    """Share of its own pace for each of one or two that run, by max-min fair shares of the memory."""
    if len(needs) < 2 or sum(needs) <= peak:
        return [1.0] * len(needs)
    low = min(needs)
    level = peak / 2.0 if low > peak / 2.0 else peak - low
    return [min(1.0, level / need) for need in needs]


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
