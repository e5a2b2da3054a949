"""The benchmarks' data for ``gpu_check.py``: made on the spot by all cores, as large as memory, disk and time allow."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from finequery.workloads import ssb, tpch
from finequery.workloads.files import publish

#: Bytes for each unit of the scale factor: in memory while the tables are loaded, and of the Parquet files.
MEMORY = {"ssb": 0.8e9, "tpch": 1.6e9}
DISK = {"ssb": 0.25e9, "tpch": 0.4e9}
#: Core-seconds that tpchgen-cli takes for each unit.
TPCH_SECONDS = 12.0


def available_memory() -> float:
    """Bytes that can be allocated without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return 8e9


def largest(benchmark: str, asked: float, folder: Path, seconds: float, workers: int) -> tuple[float, str]:
    """The scale to use, at most what was asked for, and what limits it."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = {
        "memory": available_memory() * 0.8 / MEMORY[benchmark],
        "disk": shutil.disk_usage(folder).free * 0.9 / DISK[benchmark],
        "time": seconds * workers / (TPCH_SECONDS if benchmark == "tpch" else _ssb_seconds()),
    }
    name = min(limits, key=lambda limit: limits[limit])
    if limits[name] >= asked:
        return asked, ""
    scale = limits[name]
    return (float(int(scale)) if scale >= 1 else round(scale, 2)), f"{name} allows no more"


def _ssb_seconds() -> float:
    """Core-seconds for a unit of SSB's scale, from a part of it."""
    begin = time.perf_counter()
    sizes = ssb.cardinalities(1)
    ssb.lineorder_chunk(0, 25_000, sizes, ssb.random(1, 4, 0))
    return (time.perf_counter() - begin) * sizes["orders"] / 25_000 * 1.5  # writing takes half as long again


def make(benchmark: str, scale: float, folder: Path, workers: int) -> dict[str, str]:
    """The tables of a benchmark and their Parquet files, as a path or a pattern."""
    folder = folder / f"{benchmark}-sf{scale:g}"
    if benchmark == "tpch":
        tpch.generate(scale, folder)
        return {table: str(folder / f"{table}.parquet") for table in tpch.TABLES}
    _ssb(scale, folder, workers)
    files = {table: str(folder / f"{table}.parquet") for table in ssb.TABLES}
    return files | {"lineorder": str(folder / "lineorder-*.parquet")}


def _ssb(scale: float, folder: Path, workers: int) -> None:
    """The data of ``ssb.generate``, with lineorder in a file for each chunk, so that all cores write."""
    if (folder / "complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    chunks = -(-ssb.cardinalities(scale)["orders"] // ssb.ORDERS_PER_CHUNK)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(_ssb_file, scale, name, job) for job in [*ssb.TABLES[:-1], *range(chunks)]]
            for job in jobs:
                job.result()
        publish(Path(name), folder)
    (folder / "complete").touch()


def _ssb_file(scale: float, folder: str, job: str | int, seed: int = 1) -> None:
    """Write a dimension, or a chunk of lineorder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(job, str):
        make_table = {"date": ssb.calendar, "supplier": ssb.supplier, "customer": ssb.customer, "part": ssb.part}[job]
        columns, name = make_table(scale, seed), job
    else:
        sizes, first = ssb.cardinalities(scale), job * ssb.ORDERS_PER_CHUNK
        count = min(ssb.ORDERS_PER_CHUNK, sizes["orders"] - first)
        columns, name = ssb.lineorder_chunk(first, count, sizes, ssb.random(seed, 4, job)), f"lineorder-{job:05}"
    with pq.ParquetWriter(f"{folder}/{name}.parquet", pa.table(columns).schema, store_schema=False) as writer:
        writer.write_table(pa.table(columns), row_group_size=ssb.ROWS_PER_GROUP)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
