"""Branches of a placed plan beside each other: which pipelines run ``along``, and on which device then.

A plan whose pipelines run one after another leaves a device idle whenever one alone works. A pipeline that does not
read those before it can use it: small builds of dimension tables, say, run on the CPU while the GPU is at others.
``elapsed`` is what a plan takes when it is so run: the GPU does one pipeline at a time, in the order in which they are
ready, as do the engines that copy from and to a discrete one; what is on the CPU shares its cores, and all share the
memory, each by max-min fairness, as perfmodel.compose.co_run has it. ``beside`` moves pipelines one by one while that
gains. Both are compiled (operators/primitives/placing.py): a search looks at some dozens of plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import NamedTuple, TypeAlias

import numpy as np

from finequery.operators import native
from finequery.operators.primitives.price_layout import D2H as D2H
from finequery.operators.primitives.price_layout import GPU as GPU
from finequery.operators.primitives.price_layout import H2D as H2D
from finequery.operators.primitives.price_layout import OPTION

#: What a move has to gain, as a share of the plan's time.
LEAST_GAIN = 0.002
#: Rounds of moves, at most.
ROUNDS = 2


class Task(NamedTuple):
    """A pipeline, or a copy: seconds and bytes alone, the engines that it keeps busy (``GPU``, ``H2D``, ``D2H``), the
    cores that it takes, and the tasks before it that it waits for."""

    seconds: float
    nbytes: float
    engines: int
    cores: float
    after: tuple[int, ...]


class Way(NamedTuple):
    """A way to run a pipeline: seconds and bytes alone, the cores that it takes, what it runs on (price_layout.NEEDS),
    who has its result (0: the CPU, 1: the GPU), the seconds in which columns are copied before, those in which the
    host prepares and finishes it, while others have the cores, and the pieces that columns are copied in."""

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
    """What a search found: the way of each pipeline, as its place among all, whether it runs along, seconds, and the
    number of plans that were looked at."""

    chosen: list[int]
    along: list[bool]
    seconds: float
    looked: int


#: A plan: the way of each pipeline, as its place among all, and whether it runs along.
Start: TypeAlias = tuple[Sequence[int], Sequence[bool]]
#: Pipelines that change together: each one, its way among all (-1: the one that it has), and whether it runs along.
Move: TypeAlias = Sequence[tuple[int, int, bool]]


def elapsed(tasks: Sequence[Task], cores: float, peak: float) -> float:
    """Seconds of tasks on so many cores and a memory of ``peak`` bytes a second."""
    after = [sorted(set(task.after)) for task in tasks]
    table, out = np.array([task[:4] for task in tasks], np.float64), np.empty(1)
    starts, flat = _flat(after)
    scratch = np.empty(8 * len(tasks) + 2 * len(flat))
    limits = np.array([cores, peak])
    native.run(
        "run_tasks", table.ctypes.data, starts.ctypes.data, flat.ctypes.data, limits.ctypes.data, scratch.ctypes.data,
        out.ctypes.data, n=len(tasks),
    )  # fmt: skip
    return float(out[0])


def beside(
    ways: Sequence[Way],
    starts: Sequence[Start],
    moves: Sequence[Move],
    reads: Sequence[Sequence[int]],
    handed: Sequence[Sequence[float]],
    machine: Machine,
) -> Beside:
    """The best of plans with pipelines moved beside others, each search beginning with one of ``starts``. ``moves``:
    those of several pipelines are tried once, before the others; ``handed``: for each that a pipeline reads, in the
    order of ``reads``, the seconds until it has its result, by what the reader needs and then by who holds it. Without
    moves, the plans as they are."""
    count, discrete = len(reads), machine.copies is not None
    together = [move for move in moves if len(move) > 1]
    moves = [*together, *(move for move in moves if len(move) == 1)]
    table = np.fromiter(chain.from_iterable(ways), np.float64, len(ways) * len(OPTION))
    begin, read = _flat(reads)
    first = np.array([0, *accumulate(map(len, moves))], np.int64)
    change = np.fromiter(chain.from_iterable(chain.from_iterable(moves)), np.int64)
    hand = np.fromiter(chain.from_iterable(handed), np.float64)
    copies = np.array(machine.copies if machine.copies is not None else (), np.float64)
    limits = np.array([machine.cores, machine.peak, LEAST_GAIN, float(discrete), float(machine.one_engine)])
    scratch, out = np.empty(214 * count + 9 * len(read) + 23), np.empty(len(starts))
    chosen, along = (np.array(each, np.int64) for each in zip(*starts))
    looked = native.run(
        "run_beside", table.ctypes.data, chosen.ctypes.data, along.ctypes.data, read.ctypes.data, begin.ctypes.data,
        hand.ctypes.data, copies.ctypes.data, change.ctypes.data, first.ctypes.data, len(moves), len(together),
        limits.ctypes.data, scratch.ctypes.data, out.ctypes.data, len(starts), n=count, k=ROUNDS,
    )  # fmt: skip
    best = int(out.argmin())
    return Beside(chosen[best].tolist(), along[best].astype(bool).tolist(), float(out[best]), looked)


def may_run_along(reads: Sequence[Sequence[int]]) -> list[bool]:
    """By pipeline, whether there is one before it that it can run beside: it does not read the one before it, or it
    goes on with a branch that began so."""
    found: list[bool] = []
    for place, needed in enumerate(reads):
        found.append(place > 0 and (place - 1 not in needed or found[-1]))
    return found


def _flat(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Where each list starts in all of them one after another, and these."""
    starts = np.array([0, *accumulate(map(len, lists))], np.int64)
    return starts, np.array([*chain.from_iterable(lists)], np.int64)
