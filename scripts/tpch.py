"""Make TPC-H data as Parquet, one file a table.

python scripts/tpch.py --scale 1 --out DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from finequery.workloads.command import main

if __name__ == "__main__":
    sys.exit(main("tpch"))
