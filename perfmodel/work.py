"""A sub-task as the work that a board's simulator prices: arithmetic, and memory touched in each pattern."""

from __future__ import annotations

from finequery.jetson.simulator import Touch, Work
from finequery.perfmodel.features import WRITES_TABLE, Features


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
        touches.append(Touch(f.rows * f.random_width, f.random_width, True, write, f.table_bytes, memory))
    atomics = f.rows if f.kind in ("build", "aggregate") and f.algorithm != "runs" else 0.0
    return Work(f.model, f.rows, f.steps, tuple(touches), atomics)
