"""The benchmarks' queries for ``gpu_check.py``: on the GPU and on the CPU, one answer against the other."""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_data
import tiny

import finequery
from finequery.bench.answers import row_difference
from finequery.workloads import queries
from finequery.workloads.files import cache_dir

MOST_RUNS = 15


class Engine:
    """A connection, and what its last query measured."""

    def __init__(self, simulated: bool):
        self.simulated = simulated
        self.con: Any = finequery.connect(threads=gpu_data.cores())
        session = self.con._session
        make = session.context

        def context(*arguments: Any) -> Any:
            self.context = make(*arguments)
            return self.context

        session.context = context

    def load_tiny(self, benchmark: str) -> None:
        import duckdb

        duck = duckdb.connect()
        tiny.fill(duck, benchmark, tiny.folder(benchmark))
        tiny.load(self.con, duck, benchmark)

    def use(self, device: str) -> None:
        self.con.execute(f"set device = '{device}'")

    def time(self, sql: str) -> tuple[float, list[tuple[Any, ...]]]:
        """Seconds of a query with its answer as Python rows, and the rows."""
        begin = time.perf_counter()
        rows = self.con.execute(sql).fetchall()
        return time.perf_counter() - begin, rows

    def hot(self, sql: str, seconds: float) -> float:
        """The median of runs within about ``seconds``."""
        times: list[float] = []
        gc.collect()
        gc.disable()
        try:
            while len(times) < MOST_RUNS and (len(times) < 3 or sum(times) < seconds):
                times.append(self.time(sql)[0])
                if self.simulated:
                    break
        finally:
            gc.enable()
        return statistics.median(times)

    def forget(self) -> bool:
        """Take what is kept on the device off it; False where the device keeps nothing."""
        trim = getattr(self.context.gpu, "trim", None)
        if trim is not None:
            trim()
        return trim is not None

    def moved(self) -> int | None:
        """Bytes copied between host and device so far."""
        moved = getattr(self.context.gpu, "moved", None)
        return None if moved is None else moved.total


def benchmark(options: argparse.Namespace, found: dict[str, Any], save: Callable[[], None]) -> None:
    """All queries of SSB or TPC-H, over data that is made first."""
    name, begin = options.piece, time.perf_counter()
    engine = Engine(options.simulator)
    if options.simulator:
        found["scale"], found["limited"] = "tiny", ""
        engine.load_tiny(name)
    else:
        folder = options.data or cache_dir() / "gpu"
        asked = options.ssb_scale if name == "ssb" else options.tpch_scale
        cores = gpu_data.cores()
        scale, found["limited"] = gpu_data.largest(name, asked, folder, options.seconds * 0.3, cores)
        found["scale"] = scale
        files = gpu_data.make(name, scale, folder, cores)
        found["data_seconds"] = round(time.perf_counter() - begin, 1)
        for table, path in files.items():
            engine.con.execute(f"create table {table} as select * from '{path}'")
        found["load_seconds"] = round(time.perf_counter() - begin - found["data_seconds"], 1)
    found["queries"] = results = {}
    save()
    texts = {q: text for q, text in queries(name).items() if not options.queries or q in options.queries}
    for number, (query, sql) in enumerate(texts.items()):
        left = options.seconds - (time.perf_counter() - begin)
        if left < 0.05 * options.seconds:
            found["problem"] = f"no time for {', '.join(list(texts)[number:])}"
            break
        results[query] = run_query(engine, sql, options, left / (len(texts) - number))
        if results[query].get("wrong"):
            found["wrong"] = True
        save()


def run_query(engine: Engine, sql: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """One query: first (compiling), hot and cold on the GPU, and on the CPU."""
    result: dict[str, Any] = {}
    rows: dict[str, Any] = {}
    times: dict[str, float | None] = {}
    try:
        engine.use("gpu")
        times["first"], rows["gpu"] = engine.time(sql)
        records = list(engine.context.measured.values())
        result["devices"] = sorted({r.device for r in records if r.device})
        result["departures"] = sorted({reason for r in records for reason in r.departed})
        result["bytes"] = sum(r.bytes for r in records)
        if options.piece in options.only:
            before = engine.moved()
            engine.time(sql)
            after = engine.moved()
            result["moved_hot"] = None if before is None or after is None else after - before
            times["hot"] = engine.hot(sql, seconds * 0.25)
        if "cold" in options.only and engine.forget():
            before = engine.moved()
            times["cold"], _ = engine.time(sql)
            after = engine.moved()
            result["moved_cold"] = None if before is None or after is None else after - before
        engine.use("cpu")
        _, rows["cpu"] = engine.time(sql)
        if options.piece in options.only:
            times["cpu"] = engine.hot(sql, seconds * 0.35)
        difference = row_difference(rows["gpu"], rows["cpu"], ordered=False)
        if difference:
            result["wrong"] = difference[:500]
    except Exception as error:
        result["wrong"] = f"{type(error).__name__}: {error}"[:500]
    if not options.simulator:  # whose times mean nothing
        result["ms"] = {key: round(value * 1e3, 4) for key, value in times.items() if value is not None}
    result["rows"] = len(rows.get("gpu", ()))
    return result


def compile_times(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """SSB's kernels over few rows: compiled from nothing, then read from disk by a process that has none loaded."""
    from finequery.operators.cuda import launch

    engine = Engine(options.simulator)
    engine.load_tiny("ssb")
    engine.use("gpu")
    texts = list(queries("ssb").values())[: 2 if options.simulator else None]
    with tempfile.TemporaryDirectory() as folder:
        launch._folder = lambda: Path(folder)
        seconds: dict[str, float] = {}
        for purpose in ("from nothing", "from disk", "loaded"):
            if purpose != "loaded":
                launch._loaded.clear()
            begin = time.perf_counter()
            for sql in texts:
                engine.time(sql)
            seconds[purpose] = time.perf_counter() - begin
        found["kernels"] = len(launch._loaded)
    if not options.simulator:
        found["compile_ms"] = round((seconds["from nothing"] - seconds["loaded"]) * 1e3, 1)
        found["disk_ms"] = round((seconds["from disk"] - seconds["loaded"]) * 1e3, 1)
