"""A sub-task as the work that a board's simulator prices: arithmetic, and memory touched in each pattern."""

from __future__ import annotations

from finequery.jetson.simulator import Touch, Work
from finequery.perfmodel.features import WRITES_TABLE, Features

#: Accumulators up to this size are a block's own, in shared memory (operators/cuda/translate.py).
OWN_BYTES = 40 << 10
#: Bytes that one random access reaches: what is wider takes several.
LINE = 64.0


def works(features: Features, memory: str) -> Work:
    """The work of one sub-task whose operands lie in ``memory`` (a kind of jetson.memory)."""
    f = features
    touches = []
    if f.bytes_in:
        nbytes = f.rows * f.bytes_in
        touches.append(Touch(nbytes, f.bytes_in / max(f.columns, 1.0), False, False, nbytes, memory))
    if f.bytes_out:
        nbytes = f.rows * f.bytes_out
        touches.append(Touch(nbytes, f.bytes_out, False, True, nbytes, memory))
    if f.random_width:
        write = f.kind in WRITES_TABLE
        width = min(f.random_width, LINE)
        touches.append(Touch(f.rows * f.random_width, width, True, write, f.table_bytes, memory))
    return Work(f.model, f.rows, f.steps, tuple(touches), f.rows if updates_atomically(f.model, f.table_bytes) else 0.0)


def updates_atomically(model: str, table_bytes: float) -> bool:
    """Whether every row is an atomic update of memory on a GPU. Not so: accumulators that a block has of its own
    (operators/cuda/accumulate.py), and tables that each row stores into at a place of its own."""
    kind, _, algorithm = model.removesuffix(":written").partition(":")
    if kind == "aggregate":
        return algorithm not in ("scalar", "few", "runs") and table_bytes > OWN_BYTES
    return kind == "build" and algorithm not in ("map", "rows")
