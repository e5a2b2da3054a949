"""Runs a pipeline's kernel: compiles it, hands it the arrays, looks at its errors."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from finequery.errors import InternalError, OutOfMemoryError
from finequery.operators.cuda.translate import Kernel, Parameter
from finequery.operators.program import error_of

#: What stands above every kernel in its file.
PREAMBLE = """import numpy as np
from finequery.jetson.cuda import cuda, device, kernel as jit


"""
_loaded: dict[str, Any] = {}


def load(source: str) -> Any:
    """The compiled kernel of a source. Sources lie in the cache folder under a hash of their text, so that Numba keeps
    what it compiles from them, by versions and target, beside them."""
    found = _loaded.get(source)
    if found is None:
        name = "kernel_" + hashlib.sha256(source.encode()).hexdigest()[:24]
        path = _folder() / f"{name}.py"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(PREAMBLE + source.replace("def kernel(", "@jit\ndef kernel("))
            partial.replace(path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = _loaded[source] = module.kernel
    return found


def _folder() -> Path:
    base = os.environ.get("FINEQUERY_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "finequery"
    )
    return Path(base) / "cuda"


class Run:
    """One run of a kernel over ``rows`` rows. ``prepare`` gives the sink's arrays anew, larger with every attempt."""

    def __init__(self, kernel: Kernel, device: Any, rows: int, skip: np.ndarray | None):
        self.kernel = kernel
        self.device = device
        self.rows = rows
        self.skip = skip if skip is not None else np.zeros(1, dtype=np.uint8)
        self.skips = int(skip is not None)
        self.groups = np.zeros(2, dtype=np.int64)

    def __call__(self, sink: Any, prepare: Callable[[int], None]) -> np.ndarray:
        """Run it; gives the segments that the sink wants: all rows in one piece."""
        attempt = 0
        while True:
            prepare(attempt)
            total = self._attempt(sink)
            if total >= 0:
                return np.array([[0, 0, total]], dtype=np.int64)
            attempt += 1
            if attempt > 40:
                raise InternalError("a table of groups is always full")

    def _attempt(self, sink: Any) -> int:
        kernel, rows = self.kernel, self.rows
        total, empty = rows, np.zeros(1, dtype=np.int64)
        places, texts = empty, [empty] * kernel.texts
        if kernel.counted:
            places = np.zeros(rows, dtype=np.int64)
            texts = [np.zeros(rows, dtype=np.int64) for _ in range(kernel.texts)]
            assert kernel.counting is not None
            self._launch(kernel.counting, places, texts)
            sums = []
            for counts in (places, *texts):
                ends = np.cumsum(counts)
                sums.append(int(ends[-1]) if rows else 0)
                counts[:] = ends - counts
            if not sink.dense:
                total = sums[0]
            sink.make_room(total, sums[1:])
        return total if self._launch(kernel.source, places, texts) else -1

    def _launch(self, source: str, places: np.ndarray, texts: list[np.ndarray]) -> bool:
        """Launch a kernel and wait for it; False where a table was full."""
        status = np.zeros(3, dtype=np.int64)
        self.groups[:] = 0
        device = self.device
        fixed = [device.view(a) for a in (self.skip, status, self.groups, places)]
        skip, *others = fixed
        views = [device.view(a) for a in texts]
        arrays = [_host(p) for p in self.kernel.parameters]
        views += [device.view(a) for a in arrays]
        blocks, threads = device.launch_shape(self.rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the simulator computes with numpy's scalars
            load(source)[blocks, threads](self.rows, skip, self.skips, *others, *views)
        device.synchronise()
        for array, view in zip((status, self.groups, places, *texts), (*others, *views)):
            device.fetch(view, array)
        for parameter, array, view in zip(self.kernel.parameters, arrays, views[len(texts) :]):
            if parameter.written:
                device.fetch(view, array)
        if status[0]:
            raise error_of(-(int(status[0]) >> 16), self.kernel.names[int(status[0]) & 0xFFFF])
        return not status[1]


def device_failure(error: Exception) -> str | None:
    """The words for an error of the device or of its memory, after which the CPU can do the work; None for an error of
    the query, or of the engine. CUDA's errors are told by the package of their class: Numba's built-in target, the
    simulator, numba-cuda and NVIDIA's bindings have different ones."""
    packages = ("numba.cuda.", "cuda.", "finequery.jetson.")
    if isinstance(error, (MemoryError, OutOfMemoryError)):
        what = "out of memory"
    elif any(f"{kind.__module__}.".startswith(packages) for kind in type(error).__mro__):
        what = "the kernel failed"
    else:
        return None
    text = str(error).strip().split("\n")[0].strip()
    return f"{what}: {text}" if text else what


def _host(parameter: Parameter) -> np.ndarray:
    """The array that a parameter stands for, as it sees it."""
    found = parameter.fetch()
    data = found.reshape(-1).view(np.uint8)[parameter.offset :]
    return data[: len(data) // parameter.dtype.itemsize * parameter.dtype.itemsize].view(parameter.dtype)


class Simulated:
    """Numba's simulator: kernels work on the host's arrays."""

    def view(self, array: np.ndarray) -> np.ndarray:
        from finequery.jetson.cuda import cuda

        # A plain array would be copied for each argument, and several arguments may be views of one array.
        return type(cuda.device_array(1, np.uint8))(array)

    def fetch(self, view: Any, array: np.ndarray) -> None:
        pass

    def launch_shape(self, rows: int) -> tuple[int, int]:
        return (1 if rows < 256 else 2), 32

    def synchronise(self) -> None:
        pass
