"""Make the page views of the workload clickbench-like as Parquet.

    python scripts/hits.py --scale 10 --out DIR

Scale 1 is a million rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from finequery.workloads.command import main

if __name__ == "__main__":
    sys.exit(main("clickbench-like"))
