"""Calls of single kernels, for tests: operands lie in blocks of their own, and the junk around them must stay."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from finequery.operators import native

#: Rows of a call: none, one, around the width of vectors, a tile.
SIZES = (0, 1, 15, 16, 17, 4096)
JUNK = 0xA5
#: Bytes that may be read, but not written, behind every operand.
GUARD = 64
DTYPES: dict[str, Any] = {
    **{f"u{8 * w}": np.dtype(f"u{w}") for w in (1, 2, 4, 8)},
    **{f"i{8 * w}": np.dtype(f"i{w}") for w in (4, 8)},
    **{f"f{8 * w}": np.dtype(f"f{w}") for w in (4, 8)},
}

_called: set[str] = set()


class Block:
    """A copy of an array with JUNK behind it."""

    def __init__(self, values: np.ndarray):
        values = np.ascontiguousarray(values)
        self._raw = np.full(values.nbytes + GUARD + 64, JUNK, np.uint8)
        self._start = -self._raw.ctypes.data % 64
        self._end = self._start + values.nbytes
        self.data = self._raw[self._start : self._end].view(values.dtype)
        self.data[:] = values.reshape(-1)
        self.address = self._raw.ctypes.data + self._start

    def check(self, what: str) -> None:
        """Nothing was written outside."""
        assert (self._raw[: self._start] == JUNK).all(), f"{what}: written in front of an operand"
        assert (self._raw[self._end :] == JUNK).all(), f"{what}: written behind an operand"


class Out(Block):
    """Room for ``count`` results (or the values ``count``, to be changed in place), and not for one more."""

    def __init__(self, count: int | np.ndarray, kind: str = "u8"):
        if isinstance(count, np.ndarray):
            super().__init__(count)
        else:
            super().__init__(np.full(count * DTYPES[kind].itemsize, JUNK, np.uint8).view(DTYPES[kind]))

    def list(self) -> list[Any]:
        return self.data.tolist()  # type: ignore[no-any-return]


def run(name: str, *operands: int | np.ndarray | Block, t: int = 0, n: int = 0, k: int = 0) -> int:
    """Call a kernel; arrays are passed by address, as copies that it must not change. Gives its status."""
    blocks = [Block(o) if isinstance(o, np.ndarray) else o for o in operands]
    args = arguments(*blocks)
    status = call(name, args, t, n, k)
    for block, operand in zip(blocks, operands):
        if isinstance(block, Block):
            block.check(name)
            if isinstance(operand, np.ndarray):
                flat = np.ascontiguousarray(operand).reshape(-1)
                assert block.data.tobytes() == flat.tobytes(), f"{name} changed what it reads"
    return status


def arguments(*operands: int | Block) -> Block:
    """The words that a kernel gets."""
    words = [o.address if isinstance(o, Block) else int(o) for o in operands]
    return Block(np.array([w - (1 << 64) if w >= 1 << 63 else w for w in words], np.int64))


def call(name: str, args: Block, t: int, n: int, k: int) -> int:
    """Call a kernel with words that it may change."""
    _called.add(name)
    status = native.function(name)(t, n, k, args.address)
    args.check(name)
    return status


@contextmanager
def calls() -> Iterator[set[str]]:
    """The names of the kernels called inside."""
    before = _called.copy()
    _called.clear()
    try:
        yield _called
    finally:
        _called.update(before)


def covers(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark the test of these kernels, which fails if it does not call them; its parameters may stand in braces."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def checked(*args: Any, **parameters: Any) -> None:
            with calls() as called:
                test(*args, **parameters)
                missing = {name.format_map(parameters) for name in names} - called
            assert not missing, f"not called: {missing}"

        checked.covers = names  # type: ignore[attr-defined]
        return checked

    return mark


def covered(test: Any) -> set[str]:
    """The kernels that a test covers, for all its parameters."""
    axes = []
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            name, values = mark.args
            axes.append([(name, value) for value in values])
    names = getattr(test, "covers", ())
    return {name.format_map(dict(choice)) for choice in itertools.product(*axes) for name in names}
