"""Rebuild the performance models that come with FineQuery (perfmodel/models/*.npz), and their report.

Models of simulated boards are fitted to what the simulator takes for the sub-tasks of calibration's points, as the
planner expects them: nothing is run. The model of this machine's class of CPU is fitted to what ``finequery calibrate``
has measured here (run it first; ``--boards-only`` leaves that model as it is).

    python scripts/build_models.py --report docs/models.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from finequery import calibration
from finequery.perfmodel import dataset, fit, store, training

#: Bytes of a model file, and of all of them, at the most.
LARGEST, TOTAL = 200_000, 1_500_000

HEAD = """# Performance models that come with FineQuery

Error of out-of-fold predictions of sub-tasks in %, by family and what it is a factor of; * marks the family chosen.
Written by `scripts/build_models.py`.

On simulated boards the analytic price is the simulator's own formula, so that all there is to learn is the noise given
to it: those errors say nothing about a real board. Errors of measured models include what a measurement would differ by
if it were made again.
"""


def progress(number: int) -> None:
    """Where a person is watching."""
    if sys.stderr.isatty():
        print(f"\rplanning point {number}", end="", file=sys.stderr)


def section(title: str, models: store.Stored) -> str:
    """The report of a model file."""
    kind = "simulated" if models.simulated else "measured"
    versions = ", ".join(f"{name} {number}" for name, number in models.versions.items())
    about = f"{models.samples:,} {kind} samples, {models.created}, {versions}"
    return f"## {title}\n\n{about}\n\n{fit.report(models.models)}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=300, help="points planned for boards (default: %(default)s)")
    parser.add_argument("--boards-only", action="store_true", help="leave the model of this class of CPU as it is")
    parser.add_argument("--host-only", action="store_true", help="leave the models of boards as they are")
    parser.add_argument("--samples", type=Path, help="of this class of CPU: a file of 'finequery calibrate --out'")
    parser.add_argument("--out", type=Path, default=store.SHIPPED, help="folder (default: %(default)s)")
    parser.add_argument("--report", type=Path, help="write the choice of families and their errors there")
    options = parser.parse_args(arguments)
    sections = [HEAD]
    if not options.boards_only:
        samples = dataset.read(options.samples) if options.samples else calibration.journal().samples()
        if not samples:
            parser.error("this machine is not calibrated: run 'finequery calibrate' first, or give --boards-only")
        models = training.train(None, samples)
        store.save(options.out / store.shipped_path("host").name, models)
        sections.append(section(f"CPUs of class {store.cpu_class()}", models))
    if not options.host_only:
        features = calibration.planned(options.points, progress)
        for board in training.simulated_boards():
            models = training.train(board, training.simulated_samples(board, features), lambda text: None)
            path = options.out / store.shipped_path(board.name).name
            store.save(path, models)
            sections.append(section(f"{board.title} (simulated)", models))
            print(f"{path.name}: {len(models.models)} models, {path.stat().st_size:,} bytes")
    if options.report is not None:
        options.report.write_text("\n".join(sections), encoding="utf-8")
    sizes = {path: path.stat().st_size for path in options.out.glob("*.npz")}
    if sum(sizes.values()) > TOTAL or max(sizes.values(), default=0) > LARGEST:
        print(f"too large for the package: {sizes}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
