"""Many sub-tasks as the arrays that the pricing kernels read (operators/primitives/prices.py): a row for each.

``Batch`` packs ``Features``. ``matrix`` gives what a regressor reads of every sub-task in every variant,
``features.vector`` for all of them in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finequery.operators import native
from finequery.operators.primitives.price_layout import SUBTASK
from finequery.perfmodel.features import CACHES, NAMES, TILE, Features
from finequery.perfmodel.trees import Floats, Singles

#: The numbers of a ``Features``, in the order of the kernels.
numbers = attrgetter(*SUBTASK)
_PLACE = {name: i for i, name in enumerate(SUBTASK)}
#: Kinds whose time grows with n log n.
SORTS = frozenset(["sort", "top-k", "window"])


class Batch:
    """The numbers of ``Features``, a row for each: ``batch["rows"]`` is a column of shape (sub-tasks, 1). ``models``
    are the ``Features.model`` of each."""

    def __init__(self, features: Sequence[Features]):
        self.table = table([numbers(f) for f in features])
        self.models = [f.model for f in features]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, name: str) -> Floats:
        return self.table[:, _PLACE[name], None]


def table(rows: Sequence[Sequence[float]]) -> Floats:
    """Rows of ``numbers`` as an array."""
    return np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * len(SUBTASK)).reshape(-1, len(SUBTASK))


def kind_of(model: str) -> str:
    """The kind in a ``Features.model``."""
    return model.partition(":")[0]


def units(batch: Batch) -> Floats:
    """What time is divided by to be learned: rows, or n log2 n for sorts; at least 1."""
    rows = np.maximum(batch["rows"], 1.0)
    sorts = np.array([[kind_of(model) in SORTS] for model in batch.models], np.bool_).reshape(-1, 1)
    return np.where(sorts, rows * np.maximum(np.log2(rows), 1.0), rows)


def grid(batch: Batch, *states: Any) -> tuple[tuple[int, int], Floats, NDArray[np.int64]]:
    """Numbers that broadcast to (sub-tasks, variants), as that shape, the rows of numbers that are different among
    them, and for each sub-task in each variant which of these is its."""
    shape = np.broadcast_shapes((len(batch), 1), *map(np.shape, states))
    rows = np.stack([np.broadcast_to(np.asarray(s, np.float64), shape) for s in states], axis=-1)
    different, which = np.unique(rows.reshape(-1, len(states)), axis=0, return_inverse=True)
    return shape, different, np.asarray(which, np.int64).reshape(-1)


def matrix(
    batch: Batch,
    threads: Any,
    clock_ghz: Any,
    load: Any,
    share: Any = 1.0,
    levels: Any = CACHES,
) -> Singles:
    """The numbers of ``NAMES``, and the constant 1, as (sub-tasks, variants, names + 1).

    ``threads``, ``clock_ghz``, ``load``, ``share`` and each of the three ``levels`` (bytes of the caches, first to
    last) are numbers or arrays that broadcast to (sub-tasks, variants). A share of a sub-task has that share of the
    rows, and meets the same keys and groups and the whole table."""
    shape, different, which = grid(batch, 0.0, threads, share, load, clock_ghz, *np.log2(levels))
    rows = np.repeat(np.arange(len(batch), dtype=np.int64), shape[1])
    out = np.empty((*shape, len(NAMES) + 1), np.float32)
    states = np.ascontiguousarray(different)
    native.run(
        "describe_subtasks", batch.table.ctypes.data, states.ctypes.data, rows.ctypes.data, which.ctypes.data, TILE,
        out.ctypes.data, n=len(rows),
    )  # fmt: skip
    return out
