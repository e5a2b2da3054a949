"""Branches of a plan that do not read each other, at the same time: one on the GPU beside one on the CPU.

A branch is an input of a pipeline with all that runs below it. The planner says by ``Placement.along`` which pipelines
may run beside those before them; the branch that begins with such a pipeline gets a thread of its own.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from finequery.errors import InterruptError
from finequery.operators.context import Context

_Result = TypeVar("_Result")


def together(context: Context, branches: Sequence[tuple[Any, Callable[[], _Result]]]) -> list[_Result]:
    """What the branches give, in their order: each a task or Probe, and the work. The calling thread does those that
    are not placed along, one after another. The first error, or Ctrl-C, ends all, and is raised when all have ended."""
    aside = [n for n, (item, _) in enumerate(branches) if n and _begins_along(context, item)]
    if not aside:
        return [work() for _, work in branches]
    results: dict[int, _Result] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        if context.halted():
            return
        try:
            results[number] = branches[number][1]()
        except BaseException as error:  # it is raised again in the thread that asked
            errors.append(error)
            context.end()

    helpers = [Helper(run, number) for number in aside]
    try:
        for helper in helpers:
            helper.start()
        for number in range(len(branches)):
            if number not in aside:
                run(number)
    except BaseException as error:  # no thread is to be had, or Ctrl-C between two branches
        errors.append(error)
        context.end()
    errors += join(context, helpers)
    if errors:
        raise stop_of(errors[0])
    if len(results) < len(branches):
        raise InterruptError("the query was stopped")
    return [results[number] for number in range(len(branches))]


def _begins_along(context: Context, item: Any) -> bool:
    """Whether the first pipeline that runs for an input may run beside what comes before it."""
    while item is not None:
        if context.where(item).along:
            return True
        inputs = item.inputs if hasattr(item, "inputs") else (item.build,)
        item = inputs[0] if inputs else None
    return False


class Helper(threading.Thread):
    """A thread that works for the query of the one that made it: what it allocates is in the query's account."""

    def __init__(self, work: Callable[..., None], *arguments: Any):
        super().__init__(name="finequery-branch")
        self._work = functools.partial(contextvars.copy_context().run, work, *arguments)
        self.ended = threading.Event()

    def run(self) -> None:
        """The thread."""
        try:
            self._work()
        finally:
            self.ended.set()


def join(context: Context, helpers: Sequence[Helper]) -> list[BaseException]:
    """Wait until threads have ended. Ctrl-C meanwhile tells them to, and is given back. (A ``Thread.join`` that Ctrl-C
    comes upon takes a thread that is at work for one that has ended, up to Python 3.12.)"""
    interrupts: list[BaseException] = []
    for helper in helpers:
        ended = False
        while not ended:
            try:
                ended = helper.ended.wait(1.0) or helper.ident is None  # Ctrl-C came before it was made
            except KeyboardInterrupt as error:
                interrupts.append(error)
                context.end()
        if helper.ident is not None:
            helper.join()
    return interrupts


def stop_of(error: BaseException) -> BaseException:
    """The error to be raised: Ctrl-C is what stopped the query."""
    return InterruptError("the query was stopped") if isinstance(error, KeyboardInterrupt) else error
