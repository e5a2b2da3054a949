"""Run a DAG of sub-tasks."""

from __future__ import annotations

from collections.abc import Iterator

from finequery.jetson import memory
from finequery.operators.column import Frame
from finequery.operators.context import Context
from finequery.operators.tasks import Task


def execute(root: Task, context: Context) -> Frame:
    """The result's columns. What it allocates and moves is in the context's account. With ``context.strict`` all known
    departures are one error, before anything runs."""
    _check(root, context)
    try:
        with memory.accounting(context.account):
            return root.execute(context)
    finally:
        _give_back(context)


def frames(root: Task, context: Context) -> Iterator[Frame]:
    """``execute``, a part of the rows at a time where what is read does not fit: one frame or more."""
    _check(root, context)
    with memory.accounting(context.account):  # not while the caller has a frame: he may let go of what is left
        stream = root.stream(context)
        left = iter([root.execute(context)] if stream is None else stream.frames)
    try:
        while True:
            with memory.accounting(context.account):
                frame = next(left, None)
            if frame is None:
                return
            yield frame
    finally:
        _give_back(context)


def _give_back(context: Context) -> None:
    """What was streamed left more freed memory than the process should keep."""
    if any(measured.streamed is not None for measured in context.measured.values()):
        memory.unused()


def _check(root: Task, context: Context) -> None:
    if context.strict and context.gpu is not None:
        from finequery.operators.cuda.support import require

        require(root, context)


__all__ = ["Context", "execute", "frames"]
