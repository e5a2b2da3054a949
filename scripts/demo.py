"""The main job, start to end: make TPC-H, load it, run its 22 queries, and show where each sub-task ran.

python scripts/demo.py
python scripts/demo.py --scale 1 --queries 1,6,9 --rows 3
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import finequery  # noqa: E402
from finequery.errors import Error  # noqa: E402
from finequery.operators import native  # noqa: E402
from finequery.workloads import queries, tpch  # noqa: E402
from finequery.workloads.progress import Progress  # noqa: E402

HOT_RUNS = 3


def load(con: Any, folder: Path) -> float:
    """Load all tables; returns the seconds it took."""
    start = time.perf_counter()
    with Progress("loading", len(tpch.TABLES)) as bar:
        for table in tpch.TABLES:
            bar.step(table, 0)
            con.execute(f"create table {table} as select * from '{folder / table}.parquet'")
            bar.step(table)
    return time.perf_counter() - start


def timed(con: Any, sql: str) -> tuple[Any, float]:
    """Run a query to its last row; the relation and the seconds."""
    start = time.perf_counter()
    relation = con.sql(sql)
    relation.fetchall()
    return relation, time.perf_counter() - start


def indent(text: str) -> str:
    return "\n".join("  " + line for line in text.rstrip().splitlines())


def run(con: Any, name: str, sql: str, options: argparse.Namespace) -> tuple[str, list[str]]:
    """Run one query; its text for the screen, and its line in the table at the end."""
    relation, first = timed(con, sql)
    rows = len(relation)
    hot = statistics.median(timed(con, sql)[1] for _ in range(HOT_RUNS))
    line = [name, f"{rows}", f"{first * 1000:.1f}", f"{hot * 1000:.1f}"]
    parts = [
        f"{name}: {rows} rows, first run {line[2]} ms, then {line[3]} ms",
        indent(relation.box(max_rows=options.rows)),
    ]
    if not options.no_plans:
        parts.append(indent(con.sql(sql).explain(analyze=True)))
    return "\n".join(parts) + "\n", line


def table(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def chosen(text: str) -> dict[str, str]:
    """The queries named by number (1,6,9); all where none is."""
    wanted = {int(number.strip().lstrip("q")) for number in text.split(",") if number.strip()}
    return {name: sql for name, sql in queries("tpch").items() if not wanted or int(name[1:]) in wanted}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make TPC-H, load it and run its queries.")
    parser.add_argument("--scale", type=float, default=0.1, help="scale factor (default 0.1)")
    parser.add_argument("--data", type=Path, help="folder of the Parquet files (default: a cache folder)")
    parser.add_argument("--queries", default="", help="numbers of the queries to run (default all): 1,6,9")
    parser.add_argument("--rows", type=int, default=5, help="rows of each result to show (default 5)")
    parser.add_argument("--threads", type=int, help="threads (default: all cores)")
    parser.add_argument("--no-plans", action="store_true", help="leave the sub-tasks out")
    options = parser.parse_args(argv)

    try:
        folder = tpch.generate(options.scale, options.data)
    except Error as error:
        print(error, file=sys.stderr)
        return 1
    con = finequery.connect(threads=options.threads)
    native.load()  # on a machine's first start this compiles the kernels, which is no part of loading
    seconds = load(con, folder)
    print(f"TPC-H SF{options.scale:g} from {folder}, loaded in {seconds:.2f} s\n")

    texts, failed = chosen(options.queries), 0
    lines = [["query", "rows", "first ms", "hot ms"]]
    with Progress("TPC-H", len(texts)) as bar:
        for name, sql in texts.items():
            bar.step(name, 0)
            try:
                text, line = run(con, name, sql, options)
            except Error as error:
                failed += 1
                text, line = f"{name}: {type(error).__name__}\n{indent(str(error))}\n", [name, "", "failed", ""]
            bar.clear()
            print(text, flush=True)
            lines.append(line)
            bar.step(name)
    print(table(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
