"""Run a DAG of sub-tasks."""

from __future__ import annotations

from finequery.jetson import memory
from finequery.operators.column import Frame
from finequery.operators.context import Context
from finequery.operators.tasks import Task


def execute(root: Task, context: Context) -> Frame:
    """The result's columns. What it allocates and moves is in the context's account. With ``context.strict`` all known
    departures are one error, before anything runs."""
    if context.strict and context.gpu is not None:
        from finequery.operators.cuda.support import require

        require(root, context)
    with memory.accounting(context.account):
        return root.execute(context)


__all__ = ["Context", "execute"]
