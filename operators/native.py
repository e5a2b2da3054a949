"""Primitives compiled ahead of time: built once by Numba, kept on disk, loaded by llvmlite alone.

A *kernel* is a plain function ``int64 f(t, n, k, args)`` over 64-bit words (``args`` points to int64 words), defined
in a module of ``operators.primitives`` and registered with ``@kernel("name")`` there. Rules for authors: unsigned
indices, no allocation, no exceptions, no Python objects, no calls out of the module.

``build`` compiles all of them in worker processes, takes the LLVM that Numba made, and stores object files under a
key of all sources, the versions and the CPU. ``load`` maps them into the process in a few milliseconds, without
Numba. ``function(name)`` is then a ctypes callable (it releases the GIL), ``address(name)`` goes into programs.

Run ``python -m finequery.operators.native`` to build by hand.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from finequery.operators import watch

HERE = Path(__file__).resolve().parent
SOURCES = (
    *(HERE / f"{name}.py" for name in ("native", "intrinsics", "scalar")),
    *sorted((HERE / "primitives").glob("*.py")),
)

_lock = threading.Lock()
_addresses: dict[str, int] | None = None
_engine: Any = None
_functions: dict[str, Callable[[int, int, int, int], int]] = {}
_SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def cache_directory() -> Path:
    """Where compiled kernels live: $FINEQUERY_CACHE, else the user's cache folder."""
    base = os.environ.get("FINEQUERY_CACHE")
    if base:
        return Path(base) / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "finequery" / "kernels"


def _versions() -> tuple[str, str]:
    from importlib.metadata import version

    return version("numba"), version("llvmlite")


def _key(binding: Any) -> str:
    digest = hashlib.sha256()
    for path in SOURCES:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    digest.update(repr(_versions()).encode())
    digest.update(binding.get_host_cpu_name().encode())
    digest.update(binding.get_host_cpu_features().flatten().encode())
    return digest.hexdigest()[:24]


def address(name: str) -> int:
    """Address of a kernel."""
    if _addresses is None:
        load()
    assert _addresses is not None
    return _addresses[name]


def loaded() -> bool:
    """Whether this process has the kernels."""
    return _addresses is not None


def names() -> set[str]:
    """The kernels that there are."""
    if _addresses is None:
        load()
    assert _addresses is not None
    return set(_addresses)


def function(name: str) -> Callable[[int, int, int, int], int]:
    """A kernel as a callable of four ints (t, n, k, address of the argument words)."""
    found = _functions.get(name)
    if found is None:
        found = _functions[name] = _SIGNATURE(address(name))
    return found


def run(name: str, *args: int, t: int = 0, n: int = 0, k: int = 0) -> int:
    """Call a kernel once with these argument words; for work outside of pipelines."""
    words = np.array(args, dtype=np.int64)
    return function(name)(t, n, k, words.ctypes.data)


def load() -> None:
    """Map the kernels into this process; build them first where the cache has none for this machine."""
    global _addresses, _engine
    with ExitStack() as left:
        while not _lock.acquire(timeout=watch.TURN):
            watch.check_asked()
        left.callback(_lock.release)
        if _addresses is not None:
            return
        import llvmlite.binding as binding

        for initialise in ("initialize", "initialize_native_target", "initialize_native_asmprinter"):
            with suppress(RuntimeError):  # newer llvmlite: 'initialize' is done by import and refused
                getattr(binding, initialise)()
        folder = cache_directory() / _key(binding)
        index = folder / "index.json"
        if not index.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _alone(folder.with_suffix(".lock")):
                if not index.exists():  # another process may have built them while this one waited
                    with watch.stage("compiling kernels for this CPU (once)", 1):
                        build(folder)
        names: list[str] = json.loads(index.read_text())
        machine = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(),
            features=binding.get_host_cpu_features().flatten(),
            opt=3,
            codemodel="jitdefault",
            jit=True,
        )
        module = binding.parse_assembly("")
        module.triple = binding.get_process_triple()
        engine = binding.create_mcjit_compiler(module, machine)
        for part in sorted(folder.glob("*.o")):
            engine.add_object_file(binding.ObjectFileRef.from_data(part.read_bytes()))
        engine.finalize_object()
        _engine = engine
        _addresses = {name: engine.get_function_address("finequery_" + name) for name in names}
        if not all(_addresses.values()):
            missing = [name for name, where in _addresses.items() if not where]
            raise RuntimeError(f"kernels missing from the cache {folder}: {missing[:5]}; delete that folder")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock between processes. Where the system has none, two may do the same work; the result is the same."""
    with path.open("w") as file:
        with suppress(ImportError, OSError):
            import fcntl

            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    watch.check_asked()
                    time.sleep(watch.TURN)
        yield


def package_parent() -> Path:
    """The folder that ``finequery`` is imported from: never the package's own, whose modules would stand for those of
    the standard library."""
    from importlib.util import find_spec

    found = find_spec("finequery")
    assert found is not None and found.origin is not None
    return Path(found.origin).resolve().parent.parent


def build(folder: Path) -> None:
    """Compile all kernels into ``folder``, in as many processes as there are cores, with progress on a terminal."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, ExitStack() as left:
        workers = max(1, min(os.cpu_count() or 1, 8))
        path = [str(package_parent()), os.environ.get("PYTHONPATH", "")]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path))
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "finequery.operators.native", scratch, str(part), str(workers)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process, which ends them
            )
            for part in range(workers)
        ]
        names: list[str] = []
        total = [0] * workers
        said: list[list[str]] = [[] for _ in processes]

        def follow(part: int) -> None:
            stream = processes[part].stdout
            assert stream is not None
            for line in stream:
                word, _, value = line.strip().partition(" ")
                if word == "total":
                    total[part] = int(value)
                elif word == "done":
                    names.append(value)
                    _progress(len(names), sum(total))
                else:
                    said[part].append(line)

        readers = [threading.Thread(target=follow, args=(part,)) for part in range(workers)]
        left.callback(_progress, 0, 0)
        for process, reader in zip(processes, readers):
            reader.start()
            left.callback(_end, process, reader)
        for process, reader, text in zip(processes, readers, said):
            while reader.is_alive():
                watch.check_asked()
                reader.join(watch.TURN)
            if process.wait() != 0:
                raise RuntimeError(f"compiling the kernels failed:\n{''.join(text)[-3000:]}")
        (Path(scratch) / "index.json").write_text(json.dumps(sorted(names)))
        try:
            os.rename(scratch, folder)
            os.mkdir(scratch)  # for TemporaryDirectory to remove
        except OSError:
            if not (folder / "index.json").exists():
                raise


def _end(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    """End a process that compiles, if it has not ended, and who reads what it says."""
    process.kill()
    process.wait()
    reader.join()


def _progress(done: int, total: int) -> None:
    if not sys.stderr.isatty():
        return
    if total == 0:
        sys.stderr.write("\r\x1b[K")
    else:
        filled = 30 * done // max(total, 1)
        bar = "█" * filled + "░" * (30 - filled)
        sys.stderr.write(f"\rCompiling kernels for this CPU (once) {bar} {done}/{total}")
    sys.stderr.flush()


def _compile_part(folder: Path, part: int, parts: int) -> None:
    """In a worker process: compile every ``parts``-th kernel and write one object file."""
    import importlib

    import llvmlite.binding as binding
    from numba import cfunc, types
    from numba.cpython import numbers

    from finequery.operators.primitives import KERNELS

    # Integers wrap. Numba promises LLVM that signed ones never overflow, so what tests for it may be optimised away.
    numbers._int_arith_flags = lambda kind: []
    for path in sorted((HERE / "primitives").glob("*.py")):
        if path.stem != "__init__":
            importlib.import_module(f"finequery.operators.primitives.{path.stem}")
    signature = types.int64(types.int64, types.int64, types.int64, types.CPointer(types.int64))
    chosen = sorted(KERNELS)[part::parts]
    print("total", len(chosen), flush=True)
    main = binding.parse_assembly("")
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )
    for name in chosen:
        try:
            compiled = cfunc(signature, error_model="numpy")(KERNELS[name])
        except Exception as error:
            raise RuntimeError(f"kernel {name}: {error}") from error
        text = compiled.inspect_llvm().replace(compiled.native_name, "finequery_" + name)
        module = binding.parse_assembly(text.replace("{ noinline }", "{ alwaysinline }"))
        for item in module.functions:
            if not item.is_declaration and item.name != "finequery_" + name:
                item.linkage = "internal"
        for variable in module.global_variables:
            if not variable.is_declaration:
                variable.linkage = "internal"
        # Numba's wrapper reports exceptions through the interpreter; once it sees that none can come, that code goes.
        builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
        builder.getModulePassManager().run(module, builder)
        main.link_in(module)
        print("done", name, flush=True)
    main.triple = binding.get_process_triple()
    main.data_layout = str(machine.target_data)
    for item in main.functions:
        if item.is_declaration and not item.name.startswith("llvm.") and item.name not in ALLOWED:
            raise RuntimeError(f"a kernel of part {part} calls {item.name}: kernels must be closed code")
    (folder / f"part{part}.o").write_bytes(machine.emit_object(main))


#: C library functions that kernels may call (every process has them).
ALLOWED = frozenset(
    "memcpy memmove memset exp log log2 log10 pow sin cos tan asin acos atan atan2 fmod floor ceil trunc rint round "
    "sqrt fabs copysign".split()
)

if __name__ == "__main__":
    if len(sys.argv) == 4:
        _compile_part(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    else:
        load()
        print(len(_addresses or ()), "kernels in", cache_directory())
