"""Features of many sub-tasks as arrays, priced together: ``features.vector`` for all of them in one go.

``Batch`` has a row for every sub-task; what a variant of it brings (share of the rows, threads, clocks, load) has
columns and is broadcast against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finequery.perfmodel.features import CACHES, NAMES, TILE, Features
from finequery.perfmodel.trees import Floats, Singles

_NUMBERS = tuple(f.name for f in fields(Features) if f.type == "float")
_get = attrgetter(*_NUMBERS)
#: Kinds whose time grows with n log n.
SORTS = frozenset(["sort", "top-k", "window"])


class Batch:
    """The numbers of ``Features`` as columns of shape (sub-tasks, 1): ``batch["rows"]``. ``models`` are the different
    ``Features.model`` among them, with an example of each, and ``model_of`` the number of each sub-task's."""

    def __init__(self, features: Sequence[Features], models: Sequence[str] | None = None):
        """``models``: their ``Features.model``, if known."""
        self.features = features
        numbers = chain.from_iterable(map(_get, features))
        self.table = (
            np.fromiter(numbers, np.float64, len(features) * len(_NUMBERS))
            .reshape(len(features), len(_NUMBERS))
            .T.copy()
        )
        self._columns = dict(zip(_NUMBERS, self.table[:, :, None]))
        place: dict[str, int] = {}
        names = [f.model for f in features] if models is None else models
        self.model_of = np.array([place.setdefault(name, len(place)) for name in names], np.intp)
        self.models = list(place)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, name: str) -> Floats:
        return self._columns[name]

    def by_model(self, values: Callable[[str], Any], dtype: Any = np.float64) -> NDArray:
        """A value (or a row of values) of every model, given to its sub-tasks: shape (sub-tasks, 1) or (values,
        sub-tasks, 1)."""
        table = np.array([values(name) for name in self.models], dtype)
        return table.T[..., self.model_of][..., None]


def kind_of(model: str) -> str:
    """The kind in a ``Features.model``."""
    return model.partition(":")[0]


def units(batch: Batch, share: Any = 1.0) -> Floats:
    """What time is divided by to be learned: rows, or n log2 n for sorts; at least 1."""
    rows = np.maximum(batch["rows"] * share, 1.0)
    return np.where(
        batch.by_model(lambda m: kind_of(m) in SORTS, np.bool_), rows * np.maximum(np.log2(rows), 1.0), rows
    )


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
    rows = batch["rows"] * share
    shape = np.broadcast_shapes(rows.shape, np.shape(threads), np.shape(clock_ghz), np.shape(load))
    table, groups, selectivity = batch["table_bytes"], batch["groups"], batch["selectivity"]
    base = np.ones((len(batch), 1, len(NAMES) + 1), np.float32)  # what all variants have in common
    base[:, 0, _SAME] = batch.table[_SAME_FROM].T
    base[:, 0, _LOGS] = _log(batch.table[_LOGS_FROM]).T
    base[..., _PLACE["uncertain"]] = 4.0 * selectivity * (1.0 - np.minimum(selectivity, 1.0))
    out = np.empty((*shape, len(NAMES) + 1), np.float32)
    out[:] = base
    vectors = np.minimum(batch["rows"], TILE) * (batch["bytes_in"] + batch["bytes_out"])
    working = np.log2(np.maximum(np.where(table > 0, table, vectors), 1.0))
    different = {
        "log_rows": _log(rows),
        "log_rows_out": _log(batch["rows_out"] * share),
        "rows_a_group": _log(rows / np.where(groups > 0, groups, np.inf)),
        **{name: working - level for name, level in zip(_LEVELS, np.log2(levels))},
        "threads": threads,
        "clock_ghz": clock_ghz,
        "load": load,
    }
    for name, values in different.items():
        out[..., _PLACE[name]] = values
    return out


_PLACE = {name: i for i, name in enumerate(NAMES)}
_LEVELS = ("over_first", "over_second", "over_last")
#: Where the numbers stand that are features as they are, and those whose logarithm is one.
_PLAIN = [name for name in _NUMBERS if name in _PLACE]
_LOGGED = ("table_bytes", "distinct", "groups")
_SAME, _SAME_FROM = [_PLACE[n] for n in _PLAIN], [_NUMBERS.index(n) for n in _PLAIN]
_LOGS, _LOGS_FROM = [_PLACE[f"log_{n}"] for n in _LOGGED], [_NUMBERS.index(n) for n in _LOGGED]


def _log(x: Floats) -> Floats:
    return np.log2(1.0 + np.maximum(x, 0.0))
