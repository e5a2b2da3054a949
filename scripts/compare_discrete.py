"""A Jetson beside machines with a discrete GPU: ``finequery compare``, and the page docs/comparison.md.

    python scripts/compare_discrete.py agx-xavier h100 --suite ssb --scale 1 --html out.html   # as finequery compare
    python scripts/compare_discrete.py --docs                   # docs/comparison.md with its pages, plots and numbers
    python scripts/compare_discrete.py --docs --scale 0.1 --folder /tmp/try

With ``--docs``, AGX Xavier is held against H100, RTX 2080 Ti and V100, all simulated, over SSB and TPC-H. The queries
run once each on this machine's CPU for their true numbers of rows; the rest is a function of the boards and models.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import compare_docs  # noqa: E402

from finequery.compare import command  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    if "--docs" not in given:
        return command.main(given)
    parser = argparse.ArgumentParser(description="Write docs/comparison.md.")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0, help="scale factor (default %(default)g)")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where it goes (default docs)")
    parser.add_argument(
        "--data", action="append", default=[], metavar="SUITE=DIR", help="Parquet files of a suite (default: generated)"
    )
    options = parser.parse_args(given)
    begin = time.perf_counter()
    folders = {suite: Path(folder) for suite, _, folder in (text.partition("=") for text in options.data)}
    said = "" if options.scale == 1.0 else f" --scale {options.scale:g}"
    found = compare_docs.documents(options.scale, folders)
    path = compare_docs.write(found, options.folder, said)
    print(f"{path}, in {time.perf_counter() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
