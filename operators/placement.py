"""Where a sub-task that is no pipeline runs: on the GPU if that is asked for and there is a form for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from finequery.operators.pipeline import Context, Measured, departure

_Result = TypeVar("_Result")


def placed(context: Context, measured: Measured, what: str, work: Callable[[object], _Result]) -> _Result:
    """What ``work`` gives, which takes the device, or None for the CPU. It raises ``Unsupported`` before it changes
    anything; that reason, or a failure of the device, goes into ``measured``, or is an error if that is strict."""
    if context.gpu is None:
        return work(None)
    from finequery.operators.cuda.run import device_failure
    from finequery.operators.cuda.translate import Unsupported

    try:
        with context.gpu.query():
            result = work(context.gpu)
    except Exception as error:
        reason = str(error) if isinstance(error, Unsupported) else device_failure(error)
        if reason is None:
            raise
    else:
        measured.ran_on("gpu")
        return result
    if context.strict:
        raise departure(reason, what)
    measured.depart(reason)
    measured.ran_on("cpu")
    return work(None)
