"""The benchmark script, with DuckDB standing in for FineQuery, on very little data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import access_patterns
import bench
import bench_groups
import pyarrow as pa
import pytest
from bench_groups import Case
from bench_report import Result, Table

from finequery.bench.engines import ARROW
from finequery.bench.measure import LEAST_RUNS
from finequery.workloads import ssb
from finequery.workloads.progress import Progress


def test_groups_of_generated_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--self-test", "--fraction", "0.0005", "--seconds", "0", "--only", "groupby,join,sort"]
    assert bench.main([*options, "--data", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 0
    shown = capsys.readouterr().out
    assert "geometric mean" in shown and "build 10K, match 5%" in shown and "WRONG" not in shown
    record = json.loads((tmp_path / "out.json").read_text())
    assert [group["group"] for group in record["groups"]] == ["groupby", "join", "sort"]
    assert [len(group["results"]) for group in record["groups"]] == [5, 6, 4]
    assert record["conditions"]["load_average"] and isinstance(record["conditions"]["warnings"], list)
    assert record["machine"]["cores"] and "duckdb" in record["machine"]["versions"]
    assert all(
        runs >= LEAST_RUNS for group in record["groups"] for r in group["results"] for runs in r["runs"].values()
    )


def test_a_wrong_answer_is_seen() -> None:
    case = Case("x", "", ARROW, ("a",))
    right = pa.table({"a": [1, 2, 2], "b": [1, 2, 3]})
    assert bench.difference(pa.table({"a": [1, 2, 2], "b": [1, 3, 2]}), right, case, exact=True) is None  # a tie
    assert bench.difference(pa.table({"a": [1, 2, 2], "b": [1, 2, 2]}), right, case, exact=True)
    assert bench.difference(pa.table({"a": [2, 1, 2], "b": [2, 1, 3]}), right, case, exact=True)
    assert bench.difference(pa.table({"a": [1, 2], "b": [1, 2]}), right, case, exact=True)
    assert bench.difference([(1,)], [(2,)], Case("x", ""), exact=True)


def test_targets() -> None:
    group = bench_groups.Group("x", "X", target=2.0, floor=1.5)
    fast = Result("a", {"duckdb": [4.0, 4.0, 9.0], "duckdb file": [3.0, 3.0, 3.0], "finequery": [1.0, 1.0, 7.0]})
    slow = Result("b", {"duckdb": [2.0], "finequery": [2.0]})
    assert fast.best_duckdb == "duckdb file" and fast.ratio() == 3.0
    assert Table(group, [fast]).passed()
    assert not Table(group, [fast, slow]).passed()
    assert not Table(group, [fast, Result("c", problems={"finequery": "WRONG"})]).passed()
    assert Table(group, [fast, slow]).geomean() == pytest.approx(3**0.5)


def test_queries_over_files() -> None:
    files = {"a": Path("/x/a.parquet"), "b": Path("/x/b.parquet")}
    text = bench_groups.over_files("select b.c from a,\n b where a.c = 1", files)
    assert text == "select b.c from '/x/a.parquet' as a, '/x/b.parquet' as b where a.c = 1"


def test_scaling() -> None:
    assert ssb.cardinalities(1)["part"] == 200_000 and ssb.cardinalities(4)["part"] == 600_000
    assert ssb.cardinalities(1)["date"] == 2_557 and ssb.cardinalities(2)["supplier"] == 4_000
    assert ssb.date_keys()[[0, 59, -1]].tolist() == [19920101, 19920229, 19981231]


def test_progress_is_silent_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert not sys.stderr.isatty()
    with Progress("title", 2) as bar:
        bar.step("one")
        bar.clear()
    assert capfd.readouterr() == ("", "")


def test_access_patterns(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FINEQUERY_CUDA", "NUMBA_ENABLE_CUDASIM"):  # on the CPU, where it has figures
        monkeypatch.delenv(name, raising=False)
    assert access_patterns.main(["--mebibytes", "1", "--threads", "2", "--json", str(tmp_path / "out.json")]) == 0
    assert "threads take turns" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert all(row["gigabytes_per_second"] > 0 for row in rows)


def test_access_patterns_in_the_simulator() -> None:
    script = Path(access_patterns.__file__)
    environment = {**os.environ, "FINEQUERY_CUDA": "simulator"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kinds = [line.split()[2] for line in done.stdout.splitlines()[1:]]
    assert kinds == [kind for kind in ("mapped", "managed", "device") for _ in range(3)]
    assert done.stdout.count("simulated") == 18  # no speed is claimed
