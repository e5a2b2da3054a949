"""Runs queries in Numba's CUDA simulator and writes down the kernels they launch, with the types of their arguments.

    python scripts/ptx_collect.py OUT.json [tpch ssb | tpch/q06 ssb/q1.1 …]

A part of ``ptx_report.py``, in a process of its own because Numba is either the simulator or the compiler.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
os.environ.update(FINEQUERY_CUDA="simulator", NUMBA_ENABLE_CUDASIM="1")
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402


class Recorder:
    """Stands in front of a kernel and notes what it is launched with."""

    current = ""  # the query that runs
    launched: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}

    def __init__(self, function: Any, kernel: Any):
        self.function, self.kernel = function, kernel
        self.source = Path(inspect.getfile(function)).read_text()

    def __getitem__(self, shape: Any) -> Any:
        launch = self.kernel[shape]

        def run(*arguments: Any) -> None:
            types = tuple(kind(a) for a in arguments)
            found = self.launched.setdefault(
                (self.source + self.function.__name__, types),
                {"name": self.function.__name__, "source": self.source, "types": types, "queries": []},
            )
            if self.current not in found["queries"]:
                found["queries"].append(self.current)
            launch(*arguments)

        return run


def kind(argument: Any) -> str:
    """The type of an argument: an array's items as numpy writes them and ``[]``, or a number's."""
    if hasattr(argument, "shape") and argument.shape != ():
        return np.dtype(argument.dtype).str + "[]"
    return np.asarray(argument).dtype.str


def record() -> None:
    """Put a recorder in front of every kernel that is made from now on."""
    from finequery.jetson.cuda import cuda

    module = cuda()
    make = module.jit

    def jit(function: Any = None, **options: Any) -> Any:
        if options.get("device"):
            return make(function, **options)
        if function is None:
            return lambda function: Recorder(function, make(**options)(function))
        return Recorder(function, make(function, **options))

    module.jit = jit


def main(arguments: list[str]) -> int:
    out, asked = Path(arguments[0]), arguments[1:] or ["tpch", "ssb"]
    record()
    import duckdb
    import tiny

    import finequery
    from finequery.workloads import queries

    for benchmark in dict.fromkeys(name.partition("/")[0] for name in asked):
        duck, con = duckdb.connect(), finequery.connect(threads=1)
        tiny.fill(duck, benchmark, tiny.folder(benchmark))
        tiny.load(con, duck, benchmark)
        con.execute("set device = 'gpu'")
        con.execute("set strict = true")
        for query, sql in queries(benchmark).items():
            Recorder.current = f"{benchmark}/{query}"
            if benchmark in asked or Recorder.current in asked:
                con.execute(sql).fetchall()
        con.close()
    out.write_text(json.dumps(list(Recorder.launched.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
