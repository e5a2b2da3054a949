"""From kernel functions to launches: sources, and what was compiled from them.

A kernel is a plain function over one-dimensional typed arrays and numbers. Its source, with the device functions that
it calls, is what is compiled; so the modules that hold kernels import no Numba.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

#: What stands above every kernel in its file. The built-in CUDA target of Numba 0.68 compiles no min and max of two
#: integers: it takes them for those of a tuple.
PREAMBLE = """import numpy as np
from finequery.jetson.cuda import cuda as _cuda

cuda = _cuda()
device = cuda.jit(device=True, inline="always")


@device
def min(a, b):
    return b if b < a else a


@device
def max(a, b):
    return b if b > a else a


"""
_loaded: dict[str, Any] = {}
_sources: dict[Callable[..., Any], str] = {}


def load(source: str) -> Any:
    """The compiled kernel of a source. Sources lie in the cache folder under a hash of their text, so that Numba keeps
    what it compiles from them, by versions and target, beside them."""
    found = _loaded.get(source)
    if found is None:
        name = "kernel_" + hashlib.sha256((PREAMBLE + source).encode()).hexdigest()[:24]
        path = _folder() / f"{name}.py"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(PREAMBLE + source.replace("def kernel(", "@cuda.jit(cache=True)\ndef kernel("))
            partial.replace(path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module: ModuleType = importlib.util.module_from_spec(spec)
        # Made here, or the first warning makes it while another of the simulator's threads walks the module's names.
        vars(module)["__warningregistry__"] = {}
        spec.loader.exec_module(module)
        found = _loaded[source] = module.kernel
    return found


def _folder() -> Path:
    base = os.environ.get("FINEQUERY_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "finequery"
    )
    return Path(base) / "cuda"


def add_sources(sources: dict[str, str], function: Callable[..., Any]) -> None:
    """Put a device function, behind those that it calls, into the sources of a kernel."""
    name = function.__name__
    if name in sources:
        return
    sources[name] = ""
    add_called(sources, function)
    source = inspect.getsource(function)
    del sources[name]
    sources[name] = "@device\n" + source[source.index("def ") :]


def add_called(sources: dict[str, str], function: Callable[..., Any]) -> None:
    """Put the device functions that a function calls into the sources of a kernel."""
    scope = vars(inspect.getmodule(function))
    for called in function.__code__.co_names:
        item = scope.get(called)
        if inspect.isfunction(item) and item.__name__ == called:
            add_sources(sources, item)


def kernel_source(function: Callable[..., Any]) -> str:
    """The source of a kernel function, with all that it calls."""
    found = _sources.get(function)
    if found is None:
        sources: dict[str, str] = {}
        add_called(sources, function)
        body = inspect.getsource(function).replace(f"def {function.__name__}(", "def kernel(", 1)
        found = _sources[function] = "\n\n".join([*sources.values(), body])
    return found


def start(source: str, device: Any, shape: tuple[int, int], *arguments: Any) -> None:
    """Launch the kernel of a source with so many blocks and threads."""
    arguments = tuple(_simulated(a) if isinstance(a, np.ndarray) else a for a in arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the simulator computes with numpy's scalars
        load(source)[shape[0], shape[1], device.stream](*arguments)


def launch(kernel: Callable[..., Any], device: Any, rows: int, *arguments: Any) -> None:
    """Launch a kernel function that strides over rows; their number is its first argument."""
    start(kernel_source(kernel), device, device.launch_shape(rows), rows, *arguments)


def launch_runs(
    kernel: Callable[..., Any], device: Any, rows: int, least: int, most: int, threads: int, *arguments: Any
) -> None:
    """Launch a kernel whose blocks take tiles of rows and whose threads take runs of a tile's: rows and the length of
    a run are its first arguments. ``tiles`` says how many there are."""
    each, count, shape = tiles(device, rows, least, most, threads)
    start(kernel_source(kernel), device, shape, rows, each, count, *arguments)


def tiles(device: Any, rows: int, least: int, most: int, threads: int) -> tuple[int, int, tuple[int, int]]:
    """Rows of a thread's run, tiles, and the shape of a launch over them. Runs have ``least`` rows, so that threads
    read near each other. But where a launch has few threads, as in the simulator, a block has eight and a tile up to
    ``most`` rows."""
    blocks, given = device.launch_shape(rows)
    each = least
    if given < threads:
        threads = min(given, 8)
        each = min(max(least, -(-rows // threads)), most // threads)
    count = max(1, -(-rows // (each * threads)))
    return each, count, (max(1, min(count, blocks * max(given // threads, 1))), threads)


def _simulated(array: np.ndarray) -> Any:
    """The simulator's own kind of array. Plain ones it copies for each argument, even views of one and the same."""
    from finequery.jetson.cuda import cuda

    return type(cuda().device_array(1, np.uint8))(array)
