"""TPC-H's data as Parquet, one file a table, made by tpchgen-cli."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

from finequery.errors import OperationalError
from finequery.workloads.files import cache_dir, publish
from finequery.workloads.progress import Progress

TABLES = ("region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem")


def size(scale: float) -> tuple[str, int]:
    """A table whose rows tell the scale."""
    return "supplier", max(1, int(10_000 * scale))


def generator() -> str:
    """Path of tpchgen-cli: beside this Python, or on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    found = str(beside) if beside.exists() else shutil.which("tpchgen-cli")
    if not found:
        raise OperationalError("TPC-H's data is made by tpchgen-cli, which is not here", hint="pip install tpchgen-cli")
    return found


def generate(scale: float, folder: Path | None = None) -> Path:
    """The folder with TPC-H at ``scale``; tables that are there already are kept."""
    folder = folder or cache_dir() / f"tpch-sf{scale:g}"
    missing = [table for table in TABLES if not (folder / f"{table}.parquet").exists()]
    if not missing:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name, Progress(f"TPC-H SF{scale:g}", len(missing)) as bar:
        options = ["parquet", "-s", f"{scale:g}", f"--tables={','.join(missing)}", f"--output-dir={name}"]
        with tempfile.TemporaryFile("w+") as log:
            running = subprocess.Popen([generator(), *options], stdout=log, stderr=log)
            while running.poll() is None:
                time.sleep(0.05)
                begun = [
                    file.stem for file in sorted(Path(name).glob("*.parquet"), key=lambda file: file.stat().st_ctime)
                ]
                bar.step(begun[-1] if begun else "", max(0, len(begun) - 1 - bar.done))
            if running.returncode:
                log.seek(0)
                raise OperationalError(f"tpchgen-cli failed:\n{log.read().strip()}")
        publish(Path(name), folder)
    return folder
