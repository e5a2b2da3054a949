"""Run a DAG of sub-tasks."""

from __future__ import annotations

from finequery.operators.column import Frame
from finequery.operators.pipeline import Context
from finequery.operators.tasks import Task


def execute(root: Task, context: Context) -> Frame:
    """The result's columns."""
    return root.execute(context)


__all__ = ["Context", "execute"]
