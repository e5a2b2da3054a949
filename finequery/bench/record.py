"""A benchmark's results as they are kept: JSON with what was run, where, and under which conditions."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from finequery.errors import FileError

#: Of what is written; a file of a later version is refused.
VERSION = 1
#: Packages whose versions the figures depend on.
PACKAGES = ("finequery", "duckdb", "numpy", "pyarrow", "numba", "llvmlite", "sqlglot", "polars", "datafusion")


@dataclass
class Results:
    """What a run found. ``engines`` has, by engine and query, ``seconds`` (of each run), ``rows`` and perhaps
    ``joules``; or ``problem``, in words, where there is no right answer. ``simulated``: the seconds are a board's.
    ``side``: what ``finequery compare`` knows of the machine (finequery.compare.result.Facts)."""

    suite: str
    scale: float
    machine: dict[str, Any]
    conditions: dict[str, Any]
    engines: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    simulated: bool = False
    board: str = ""
    version: int = VERSION
    side: dict[str, Any] = field(default_factory=dict)

    @property
    def queries(self) -> list[str]:
        """The names of all queries, in the order in which they ran."""
        return list(dict.fromkeys(query for found in self.engines.values() for query in found))

    def seconds(self, engine: str, query: str) -> list[float]:
        """The times of a query's runs; none where it has none."""
        return list(self.engines.get(engine, {}).get(query, {}).get("seconds", ()))

    def median(self, engine: str, query: str) -> float | None:
        """The median of a query's runs in seconds."""
        times = self.seconds(engine, query)
        return statistics.median(times) if times else None

    def problem(self, engine: str, query: str) -> str:
        """Why an engine has no times of a query, or nothing."""
        return str(self.engines.get(engine, {}).get(query, {}).get("problem", ""))


def write(path: Path, results: Results) -> None:
    """Write the file in one go, so that there is never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def read(path: Path) -> Results:
    """Results from a file; raises FileError where it is none of ours."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"Can't read '{path}': {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileError(f"'{path}' is not JSON: {error}") from None
    known = {f.name for f in fields(Results)}
    if not isinstance(document, dict) or not {"suite", "scale", "machine", "conditions", "engines"} <= set(document):
        raise FileError(f"'{path}' has no results of finequery bench")
    if document.get("version", VERSION) > VERSION:
        raise FileError(f"'{path}' was written by a later version of FineQuery")
    return Results(**{name: value for name, value in document.items() if name in known})


def machine(threads: int) -> dict[str, Any]:
    """What the figures are measured on."""
    from finequery.perfmodel.machine import processor

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "cpu": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1) if memory else None,
        "threads_used": threads,
        "load_average": list(os.getloadavg()),
        "system": platform.platform(),
        "versions": versions,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def conditions() -> dict[str, Any]:
    """Clocks, power mode, heat and load, and under ``warnings`` what makes the figures unfair."""
    from finequery.jetson import conditions as now

    return now.conditions()
