"""``finequery calibrate``: the points of perfmodel/points.py as queries of this engine, measured or only planned."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finequery import bar
from finequery import progress as shown
from finequery.errors import Error
from finequery.jetson import conditions
from finequery.perfmodel import calibrate as calibration
from finequery.perfmodel import dataset, machine, store, training
from finequery.perfmodel.calibrate import Journal, Piece, Progress
from finequery.perfmodel.features import Features
from finequery.perfmodel.points import Point, point, table

if TYPE_CHECKING:
    from finequery.connection import Connection
    from finequery.plan_cache import Plan


class Bench:
    """A connection on which points, or other queries, are measured. Tables that the next point has too stay."""

    def __init__(self, con: Connection | None = None) -> None:
        from finequery.connection import connect

        self.con = con or connect(plan_cache_size=0, progress="off")
        self.session = self.con._session
        self.tables: dict[str, Any] = {}

    def prepare(self, one: Point) -> calibration.Run:
        """Make a point's tables and plan its query."""
        for name, rows, columns in one.tables:
            if self.tables.get(name) != (one.key, rows, columns):
                self.con.register("source", table(rows, columns, one.key))
                self.con.execute(f"create or replace table {name} as select * from source")
                self.con.unregister("source")
                self.tables[name] = one.key, rows, columns
        return self.runner(self.con.sql(one.sql).plan)

    def runner(self, plan: Plan | None) -> calibration.Run:
        """How to run a query's plan and see what its pipelines took."""
        session = self.session
        assert plan is not None

        def run(threads: int) -> Sequence[Piece]:
            session.settings.set("threads", threads)
            pieces = []
            for seen in session.observe(plan, {}):
                assert seen.seconds is not None
                pieces.append(Piece(seen.features, seen.seconds, seen.total, seen.threads))
            return pieces

        return run

    def planned(self, one: Point) -> list[list[Features]]:
        """The sub-tasks of a point's query by pipeline, as the planner expects them: nothing is run."""
        from finequery.planner.features import features
        from finequery.planner.subtasks import split

        self.prepare(one)
        plan = self.con.sql(one.sql).plan
        assert plan is not None
        return [[features(s) for s in pipeline.subtasks] for pipeline in split(plan.root)]

    def close(self) -> None:
        self.con.close()


def planned(points: int, progress: Callable[[int], None] = lambda number: None) -> list[Features]:
    """The sub-tasks of so many points, as the planner expects them: what simulated boards are asked for."""
    bench = Bench()
    try:
        found = []
        for number in range(points):
            found += [f for pipeline in bench.planned(point(number)) for f in pipeline]
            progress(number + 1)
        return found
    finally:
        bench.close()


def journal() -> Journal:
    """What was measured on this machine with these versions, in the cache folder."""
    from finequery import __version__
    from finequery.operators import native

    key = machine.identity(__version__, str(dataset.VERSION))
    return Journal(native.cache_directory().parent / "calibration" / f"{key}.jsonl").load()


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="finequery calibrate",
        description="Measure what sub-tasks take on this machine. What was measured is kept: stopped with Ctrl-C or "
        "by the budget, the next call goes on from there.",
    )
    parser.add_argument("--minutes", type=float, default=4.0, metavar="M", help="budget of time (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{calibration.QUICK} points, not {calibration.POINTS}")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the samples there too, as JSON lines")
    parser.add_argument(
        "--board", metavar="NAME", help="fit models of this simulated board instead, such as agx-xavier"
    )
    options = parser.parse_args(arguments)
    if not options.minutes > 0.0:
        parser.error(f"--minutes must be above 0, not {options.minutes:g}")
    if options.board and options.out:
        parser.error("--out is for what this machine takes, not for a simulated --board")
    try:
        if options.out is None:  # samples may be fitted on another machine
            training.check()
    except Error as error:
        print(error, file=sys.stderr)
        return 1
    if options.board:
        return _simulated(options.board, calibration.QUICK if options.quick else calibration.POINTS)
    kept = journal()
    if options.fresh:
        kept.path.unlink(missing_ok=True)
        kept = Journal(kept.path)
    if kept.damaged:
        print(f"{kept.damaged} damaged lines of {kept.path} are measured again", file=sys.stderr)
    for text in conditions.warnings():
        print(f"warning: {text}", file=sys.stderr)
    try:
        samples = run(kept, options.minutes * 60.0, calibration.QUICK if options.quick else calibration.POINTS)
    except KeyboardInterrupt:
        print(f"\nstopped; {len(kept.points)} points are in {kept.path}", file=sys.stderr)
        return 130
    except Error as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"{len(kept.points)} points, {len(samples)} samples in {kept.path}")
    try:
        models = training.train(None, samples, say)
    except Error as error:
        print(f"no model is fitted: {error}", file=sys.stderr)
    else:
        store.save(store.user_path("host"), models)
        print(f"{len(models.models)} models in {store.user_path('host')}")
    if options.out is not None:
        dataset.write(options.out, samples)
        print(f"written to {options.out}")
    return 0


def _simulated(name: str, points: int) -> int:
    """Fit the models of a simulated board to what its simulator takes."""
    from finequery.jetson.board import load

    try:
        board = load(name)
        features = planned(points)
        models = training.train(board, training.simulated_samples(board, features), say)
    except Error as error:
        print(error, file=sys.stderr)
        return 1
    store.save(store.user_path(board.name), models)
    print(f"{len(models.models)} models of {board.title}, simulated, in {store.user_path(board.name)}")
    return 0


def run(kept: Journal, seconds: float, points: int) -> list[dataset.Sample]:
    """Measure within a budget, with a bar where a person is watching."""
    from finequery.settings import available_cores

    bench = Bench()
    try:
        return calibration.calibrate(
            bench.prepare,
            kept,
            points=map(point, range(points)),
            budget=seconds,
            threads=available_cores(),
            clock_ghz=machine.clock_ghz(),
            progress=show if bar.wanted("auto") else lambda state: None,
        )
    finally:
        bench.close()


def say(fitted: str) -> None:
    """The model fitted last, on the same line."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[Kfitted {fitted}")


def show(state: Progress) -> None:
    """The bar, until all points are done."""
    if state.done == state.points:
        bar.erase()
        return
    share = max(state.done / max(state.points, 1), min(state.seconds / state.budget, 1.0))
    left = state.seconds * (1.0 - share) / share if share > 0.0 else None
    doing = f"calibrating: point {state.done + 1} of {state.points}, {state.label}"
    bar.draw(shown.Progress("finequery calibrate", state.seconds, share, left, doing))
