"""Calibration: points, the journal, a budget, samples on disk; and the cost table fitted to samples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finequery import calibration
from finequery.errors import DataError, OutOfRangeError
from finequery.jetson import board as boards
from finequery.jetson import costs
from finequery.jetson.simulator import Machine
from finequery.perfmodel import calibrate, costfit, dataset
from finequery.perfmodel.calibrate import Journal, Piece, Progress
from finequery.perfmodel.dataset import Sample
from finequery.perfmodel.features import Features
from finequery.perfmodel.points import FAMILIES, Point, point, table
from finequery.perfmodel.work import works
from finequery.shell import main as shell

SAMPLE = Sample(Features("filter", "ranges", 1000, 10, 4.0, selectivity=0.01), "cpu", 1, 2.5, 0.0, 1e-5, 0.9)


class Fake:
    """Stands for the engine: counts what it is asked for; each run takes a little longer than the one before."""

    def __init__(self) -> None:
        self.prepared: list[int] = []
        self.runs = 0

    def __call__(self, one: Point) -> calibrate.Run:
        self.prepared.append(one.number)

        def run(threads: int) -> Sequence[Piece]:
            self.runs += 1
            return [
                Piece((Features("scan", rows=10), Features("filter", rows=10)), (0.0, 1e-3 * self.runs), 2.0, threads)
            ]

        return run


def measure(fake: Any, journal: Journal, points: int, budget: float = 60.0, progress: Any = lambda state: None) -> Any:
    some = [point(n) for n in range(points)]
    return calibrate.calibrate(fake, journal, points=some, budget=budget, threads=1, clock_ghz=2.0, progress=progress)


def test_points_are_the_same_everywhere_and_cover_all_families() -> None:
    points = [point(n) for n in range(200)]
    assert points == [point(n) for n in range(200)]
    assert len({p.key for p in points}) == 200
    assert {p.family for p in points[: len(FAMILIES)]} == {f.__name__.strip("_") for f in FAMILIES}
    rows = [p.rows for p in points]
    assert min(rows) < 1000 and max(rows) > 1_000_000


def test_rows_of_a_table_are_as_made() -> None:
    joins = (p for p in map(point, range(400)) if p.family == "join")
    one = next(p for p in joins if p.tables[1][2][0].kind in ("row", "perm") and p.rows < 200_000)
    name, rows, columns = one.tables[1]
    made = table(rows, columns, one.key)
    assert made.num_rows == rows and made.column_names == [c.name for c in columns]
    assert len(set(made["k"].to_pylist())) == rows
    assert made.equals(table(rows, columns, one.key))
    assert name == "q"


def test_the_least_of_some_runs_counts(tmp_path: Path) -> None:
    fake, journal = Fake(), Journal(tmp_path / "j.jsonl")
    samples = measure(fake, journal, 1)
    kept = next(s for s in samples if s.features.kind == "filter")
    assert kept.seconds == pytest.approx(2e-3)  # the first run compiles and does not count
    assert 0 < kept.weight < 1 and not kept.simulated
    assert fake.runs == 1 + calibrate.MOST_RUNS


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "j.jsonl"
    first = measure(Fake(), Journal(path), 3)
    fake = Fake()
    again = measure(fake, Journal(path).load(), 5)
    assert fake.prepared == [3, 4]
    assert again[: len(first)] == first


def test_damaged_lines_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    measure(Fake(), Journal(path), 4)
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"version": 1', '"version": 0', 1)
    path.write_text("\n".join([lines[0], lines[1], "{nonsense", lines[2], lines[3][:100]]))
    journal, fake = Journal(path).load(), Fake()
    assert journal.damaged == 3 and len(journal.points) == 2
    measure(fake, journal, 4)
    assert fake.prepared == [1, 3]
    whole = Journal(path).load()  # the line that was cut off did not swallow the next one
    assert len(whole.points) == 4


def test_the_budget_ends_it(tmp_path: Path) -> None:
    fake, states = Fake(), []
    measure(fake, Journal(tmp_path / "j.jsonl"), 50, budget=0.0, progress=states.append)
    assert len(fake.prepared) <= 1
    assert all(isinstance(s, Progress) for s in states) and states[-1].done == states[-1].points == 50


def test_a_point_that_fails_is_no_sample(tmp_path: Path) -> None:
    def prepare(one: Point) -> calibrate.Run:
        raise OutOfRangeError("no room")

    journal = Journal(tmp_path / "j.jsonl")
    assert measure(prepare, journal, 2) == []
    assert list(journal.points.values()) == [[], []]


def test_samples_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    other = replace(SAMPLE, device="gpu", simulated=True)
    dataset.write(path, [SAMPLE, other])
    assert dataset.read(path) == [SAMPLE, other]
    for damage in ('{"version": 9}', "[]", "{", json.dumps({**dataset.to_json(SAMPLE), "seconds": "soon"})):
        with path.open("a") as file:
            file.write(damage + "\n")
        with pytest.raises(DataError, match="line 3"):
            dataset.read(path)
        dataset.write(path, [SAMPLE, other])


def test_a_small_calibration_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    monkeypatch.setattr(calibration, "journal", lambda: Journal(journal.path).load())
    monkeypatch.setattr(calibrate, "QUICK", 3)
    monkeypatch.setattr(calibrate, "ENOUGH", 0.0)
    assert shell(["calibrate", "--quick", "--minutes", "5", "--out", str(tmp_path / "out.jsonl")]) == 0
    assert "3 points" in capsys.readouterr().out
    samples = dataset.read(tmp_path / "out.jsonl")
    assert samples == Journal(journal.path).load().samples() and len(samples) > 6
    assert {s.features.kind for s in samples} >= {"scan", "filter", "build", "probe", "aggregate"}
    assert all(s.seconds >= 0 and 0 < s.weight <= 1 and s.clock_ghz > 0 for s in samples)


def test_what_is_missing_is_said_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration, "journal", lambda: Journal(tmp_path / "j.jsonl").load())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for arguments in (["--quick"], ["--board", "agx-xavier"]):
        assert shell(["calibrate", *arguments]) == 1
        assert "needs scikit-learn" in capsys.readouterr().err
    assert not (tmp_path / "j.jsonl").exists()
    for arguments in (["--minutes", "0"], ["--board", "agx-xavier", "--out", "x"]):
        with pytest.raises(SystemExit):
            shell(["calibrate", *arguments])


def test_planned_points_have_features() -> None:
    bench = calibration.Bench()
    for number in (1, 3, 13):
        if point(number).rows < 500_000:
            pipelines = bench.planned(point(number))
            assert pipelines and all(f.rows >= 0 for p in pipelines for f in p)
    bench.close()


def test_a_fit_finds_the_coefficients_that_samples_were_made_with(tmp_path: Path) -> None:
    board, known = boards.load("host"), costs.load()
    wanted = replace(known.cpu["project"], row=3.0, step=5.0, random=0.0, fixed_us=40.0)
    made = replace(known, cpu={**known.cpu, "project": wanted}, cpu_overlap=0.7)
    machine, samples = Machine(board, table=made), []
    for i in range(40):
        f = Features("project", rows=1000.0 * 1.25**i, rows_out=1.0, bytes_in=1 + i % 3, steps=1 + i % 5, columns=2)
        samples.append(Sample(f, "cpu", 1, 2.5, 0.0, machine.solo([works(f, "pageable")], "cpu", 1).seconds))
    fitted = costfit.fit(samples, board, known)
    entry = fitted.table.cpu["project"]
    assert entry.row == pytest.approx(3.0, rel=0.1) and entry.step == pytest.approx(5.0, rel=0.05)
    assert entry.fixed_us == pytest.approx(40.0, rel=0.05) and fitted.errors["project"] < 0.02
    assert fitted.table.cpu["filter"] == known.cpu["filter"]
    path = tmp_path / "costs.toml"
    shutil.copy(boards.FOLDER / "costs.toml", path)
    costfit.write(path, fitted, "measured in a test")
    again = costs.parse(boards.read_toml(path))
    assert again.cpu["project"].row == pytest.approx(entry.row, rel=1e-3)
    assert again.cpu_overlap == fitted.table.cpu_overlap and again.gpu == known.gpu
    assert again.sources["cpu.project"].startswith("measured in a test: 40 samples")
    assert set(again.cpu) == set(known.cpu)
