"""The pictures of docs/how-it-works.md, made anew: ``python docs/pictures.py``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from finequery import connect, workloads  # noqa: E402
from finequery.workloads import tpch  # noqa: E402


def main() -> None:
    """The timeline of a query on a simulated board, its second run: the first one counts rows."""
    con = connect(board="agx-xavier")
    folder = tpch.generate(0.1)
    for table in tpch.TABLES:
        con.execute(f"create table {table} as select * from '{folder / table}.parquet'")
    query = con.sql(workloads.queries("tpch", ["q03"])["q03"])
    query.timeline()
    query.timeline().save(str(HERE / "images" / "plan.svg"))


if __name__ == "__main__":
    main()
