"""The kernels, by family. Imported only to compile them (operators.native); they need Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KERNELS: dict[str, Callable[..., Any]] = {}


def kernel(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function ``(t, n, k, args) -> int64`` as a kernel."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        assert name not in KERNELS, name
        KERNELS[name] = function
        return function

    return register
