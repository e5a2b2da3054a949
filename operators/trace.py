"""What planning did with the literals of a text: enough to know whether the plan is right for other literals.

A literal whose value planning may only look at through its trace is *lifted*: the plan reads it as a parameter. The
trace is a straight-line program over the literals. *Steps* compute new values (a date from its text, a folded sum);
*tests* are the decisions that rested on a value (does it fit the column's type?) with their outcome. A plan fits other
literals if all tests come out the same. Code that knows nothing of traces reads ``Literal.value``, which is the test
for that very value: the plan then fits this literal alone. So a plan is never used for literals it was not made for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Op(NamedTuple):
    """One operation: a step (``place`` is its result's) or a test (``place`` is -1) of values at ``inputs``."""

    place: int
    compute: Callable[..., Any]
    inputs: tuple[int, ...]
    outcome: Any = None


class Trace:
    """The program that is recorded while one statement is planned. Places below ``count`` are the literals."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.size = count
        self.ops: list[Op] = []
        self.open = True
        self._fixed: set[int] = set()

    def step(self, compute: Callable[..., Any], inputs: Sequence[int]) -> int:
        """Record a computed value; its place."""
        self.size += 1
        self.ops.append(Op(self.size - 1, compute, tuple(inputs)))
        return self.size - 1

    def test(self, compute: Callable[..., Any], inputs: Sequence[int], outcome: Any) -> None:
        """Record a decision."""
        if self.open:
            self.ops.append(Op(-1, compute, tuple(inputs), outcome))

    def fix(self, place: int, value: Any) -> None:
        """Record that the plan is for this value alone."""
        if place not in self._fixed:
            self._fixed.add(place)
            self.test(_itself, (place,), value)

    def is_fixed(self, place: int) -> bool:
        """Whether the plan is for one value of this literal alone."""
        return place in self._fixed

    def close(self, read: set[int]) -> None:
        """End the record; keep what tests and the values ``read`` by the plan need."""
        self.open = False
        kept: list[Op] = []
        needed = set(read)
        for op in reversed(self.ops):
            if op.place < 0 or op.place in needed:
                needed.update(op.inputs)
                kept.append(op)
        self.ops = kept[::-1]

    def replay(self, literals: Sequence[Any]) -> list[Any] | None:
        """All values for other literals; None where the plan is not for them."""
        values: list[Any] = [*literals, *([None] * (self.size - self.count))]
        try:
            for place, compute, inputs, outcome in self.ops:
                found = compute(*[values[i] for i in inputs])
                if place >= 0:
                    values[place] = found
                elif not same(found, outcome):
                    return None
        except Exception:  # a text that is no date, a number out of range: planning anew reports it
            return None
        return values


def same(a: Any, b: Any) -> bool:
    """Whether two physical values are the same in every respect: 1 is not True, 0.0 is not -0.0."""
    return type(a) is type(b) and (a == b if type(a) is not float else repr(a) == repr(b))


def _itself(value: Any) -> Any:
    return value
