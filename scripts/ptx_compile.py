"""Compiles kernels to PTX for several targets, without a GPU or a driver.

    CUDA_HOME=SHIM python scripts/ptx_compile.py KERNELS.json OUT_FOLDER 7.2 8.7 9.0

A part of ``ptx_report.py``: reads what ``ptx_collect.py`` wrote, and writes OUT_FOLDER/NUMBER-TARGET.ptx, or a .error
file with the compiler's words. Needs numba and the CUDA 12 compiler wheels (extra ``ptx``), nothing else of FineQuery.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for name in ("FINEQUERY_CUDA", "NUMBA_ENABLE_CUDASIM"):
    os.environ.pop(name, None)
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402


def numba_type(text: str) -> Any:
    """The Numba type of an argument as ``ptx_collect.kind`` writes it."""
    from numba import types
    from numba.np.numpy_support import from_dtype

    item = from_dtype(np.dtype(text.removesuffix("[]")))
    return types.Array(item, 1, "C") if text.endswith("[]") else item


def function_of(kernel: dict[str, Any], folder: Path, number: int) -> Any:
    """The Python function of a kernel, from its module's source."""
    path = folder / f"kernel_{number}.py"
    path.write_text(kernel["source"])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, kernel["name"]).py_func


def main(arguments: list[str]) -> int:
    kernels, folder = json.loads(Path(arguments[0]).read_text()), Path(arguments[1])
    targets = [tuple(map(int, text.split("."))) for text in arguments[2:]]
    from numba import cuda
    from numba.cuda import dispatcher

    target = [targets[0]]
    # Typing a call of a device function asks for the device's compute capability, although the target is given.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=target[0])
    for number, kernel in enumerate(kernels):
        function = None
        for major, minor in targets:
            target[0] = (major, minor)
            path = folder / f"{number}-{major}.{minor}"
            try:
                function = function or function_of(kernel, folder, number)
                signature = tuple(map(numba_type, kernel["types"]))
                ptx, _ = cuda.compile_ptx(function, signature, cc=(major, minor))
                path.with_name(path.name + ".ptx").write_text(ptx)
            except Exception as error:  # the report shows it
                path.with_name(path.name + ".error").write_text(f"{type(error).__name__}: {error}")
        print(number + 1, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
