"""The command that makes a workload's data, for the scripts of that name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from finequery.program import exit_code
from finequery.workloads import TITLES, generate
from finequery.workloads.files import cache_dir


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """Make the data and say where it is; the exit code."""
    parser = argparse.ArgumentParser(description=f"Make data of {TITLES[name]} as Parquet files, one a table.")
    parser.add_argument("--scale", type=float, default=1.0, help="scale factor (default %(default)g)")
    default = cache_dir() / f"{name}-sfSCALE"
    parser.add_argument("--out", type=Path, help=f"folder for the files (default {default}), made only once")
    options = parser.parse_args(arguments)

    def make() -> int:
        files = generate(name, options.scale, options.out)
        size = sum(path.stat().st_size for path in files.values())
        print(f"{next(iter(files.values())).parent}: {len(files)} tables, {size / 1e6:.0f} MB")
        return 0

    return exit_code(make)
