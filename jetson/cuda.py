"""The one place that imports Numba's CUDA target."""

from __future__ import annotations

import os
from typing import Any

if os.environ.get("FINEQUERY_CUDA") == "simulator":
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")

from numba import cuda  # noqa: E402

device: Any = cuda.jit(device=True, inline="always")


def kernel(function: Any) -> Any:
    """Compile a kernel."""
    return cuda.jit(function)


__all__ = ["cuda", "device", "kernel"]
