"""Make TPC-H data as Parquet, one file a table, with tpchgen-cli.

    python scripts/tpch.py --scale 1 --out DIR

Without ``--out`` the files go to a cache folder and are made only once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from progress import Progress

TABLES = ("region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem")


def cache_dir() -> Path:
    """Where generated data is kept: ``$FINEQUERY_CACHE``, or ``~/.cache/finequery``."""
    return Path(os.environ.get("FINEQUERY_CACHE") or Path.home() / ".cache" / "finequery")


def publish(temporary: Path, folder: Path) -> None:
    """Move finished files into ``folder``, one by one, so that a reader or a second writer never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in temporary.iterdir():
        os.replace(file, folder / file.name)


def generator() -> str:
    """Path of tpchgen-cli: beside this Python, or on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    found = str(beside) if beside.exists() else shutil.which("tpchgen-cli")
    if not found:
        raise SystemExit("tpchgen-cli is missing. Install it with: pip install tpchgen-cli")
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
                raise SystemExit(f"tpchgen-cli failed:\n{log.read().strip()}")
        publish(Path(name), folder)
    return folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make TPC-H data as Parquet files.")
    parser.add_argument("--scale", type=float, default=1.0, help="scale factor (default 1, about 350 MB)")
    parser.add_argument("--out", type=Path, help=f"folder for the files (default {cache_dir()}/tpch-sfSCALE)")
    options = parser.parse_args(argv)
    folder = generate(options.scale, options.out)
    size = sum((folder / f"{table}.parquet").stat().st_size for table in TABLES)
    print(f"{folder}: {len(TABLES)} tables, {size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
