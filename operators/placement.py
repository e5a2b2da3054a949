"""Where a sub-task that is no pipeline runs: on the GPU if that is asked for and there is a form for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from finequery.errors import NotSupportedError
from finequery.operators.pipeline import Context, Measured

_Result = TypeVar("_Result")


def placed(context: Context, measured: Measured, what: str, work: Callable[[object], _Result]) -> _Result:
    """What ``work`` gives, which takes the device, or None for the CPU. It raises ``Unsupported`` before it changes
    anything; the reason goes into ``measured``, or is an error if that is strict."""
    if context.gpu is not None:
        from finequery.operators.cuda.translate import Unsupported

        try:
            with context.gpu.query():
                result = work(context.gpu)
        except Unsupported as reason:
            depart(context, measured, what, str(reason))
        else:
            measured.device = "gpu"
            return result
    return work(None)


def depart(context: Context, measured: Measured | None, what: str, reason: str) -> None:
    """Note why something does not run on the GPU; an error if that is strict."""
    if context.strict:
        raise NotSupportedError(
            f"{what} can't run on the GPU: {reason}", hint="SET strict = false to let the CPU do it."
        )
    if measured is not None:
        measured.departed = reason
