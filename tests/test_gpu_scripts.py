"""The scripts that look at kernels and at chips: gpu_check.py in the simulator, ptx_report.py with the CUDA wheels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_check
import gpu_data
import gpu_report
import ptx_report
import pytest

from finequery.workloads import ssb

ROOT = Path(__file__).resolve().parent.parent


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FINEQUERY_CUDA", "simulator")
    monkeypatch.setattr(gpu_check, "describe", lambda: "no NVIDIA driver")
    assert gpu_check.main([]) == 2
    assert capsys.readouterr().out == "There is no GPU here: no NVIDIA driver. --simulator tries the script out.\n"


def test_gpu_check_simulated(tmp_path: Path) -> None:
    options = ["--simulator", "--only", "copy,ssb,cold", "--queries", "q1.1", "--out", str(tmp_path / "gpu")]
    done = subprocess.run([sys.executable, "scripts/gpu_check.py", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    query = record["pieces"]["ssb"]["queries"]["q1.1"]
    assert record["simulated"] and query["devices"] == ["gpu"] and not query["departures"] and query["bytes"] > 0
    assert "ms" not in query and "GB/s" not in (tmp_path / "gpu.md").read_text()  # they would mean nothing


def test_report_of_figures() -> None:
    """What a chip would give: made-up times."""
    query = {"bytes": 4e9, "rows": 1, "departures": ["no"], "ms": {"hot": 2.0, "cpu": 40.0, "first": 900.0}}
    device = {"name": "X", "capability": "9.0", "multiprocessors": 132, "memory": 8e10, "driver_cuda": "12.9"}
    copy = {"copy": 2500.0, "read": 2600.0, "to device": 55.0, "to host": 54.0}
    machine = {"time": "now", "cpu": "C", "cores": 16, "memory_gb": 128, "versions": {}}
    pieces: dict[str, Any] = {"copy": copy, "ssb": {"scale": 20.0, "queries": {"q1.1": query}}}
    record = {"simulated": False, "device": device, "machine": machine, "pieces": pieces}
    text = gpu_report.markdown(record)
    assert "| q1.1 | 2.00 | 2,000 | 80% | - | 900 | 40.0 | 20.0 | 1 | no |" in text
    assert "| **geometric mean** | 2.00 | | | | | 40.0 | 20.0 | | |" in text
    pieces["ssb"]["queries"]["q1.1"] = {"wrong": "1 row, expected 2"}
    pieces["ssb"]["problem"] = "not through"
    text = gpu_report.markdown(record)
    assert "WRONG q1.1: 1 row" in text and "ssb: not through" in text


def test_ssb_in_parts(tmp_path: Path, con: Any, duck: Any) -> None:
    """The data that all cores write is that of the generator, and FineQuery loads it."""
    files = gpu_data.make("ssb", 0.01, tmp_path, 2)
    whole = ssb.generate(0.01, tmp_path / "whole")
    for table, path in files.items():
        theirs = f"select * from '{whole / table}.parquet'"
        assert duck.execute(f"select * from '{path}' except all {theirs}").fetchall() == []
        con.execute(f"create table {table} as select * from '{path}'")
        count = f"select count(*) from ({theirs})"
        assert con.execute(f"select count(*) from {table}").fetchall() == duck.execute(count).fetchall()


def test_scale_is_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_data, "available_memory", lambda: 16e9)
    assert gpu_data.largest("tpch", 1.0, tmp_path, 1000.0, 2) == (1.0, "")
    assert gpu_data.largest("tpch", 10.0, tmp_path, 1000.0, 2) == (8.0, "memory allows no more")
    assert gpu_data.largest("tpch", 10.0, tmp_path, 30.0, 2) == (5.0, "time allows no more")


@pytest.mark.parametrize(("suite", "least"), [("tpch", 120), ("ssb", 70)])
def test_every_kernel_compiles(suite: str, least: int, tmp_path: Path) -> None:
    """All kernels of a suite's queries, through the compiler and the assembler of CUDA 12."""
    if ptx_report.wheels(sys.executable) is None:
        pytest.skip("the CUDA 12 compiler wheels are not installed (extra ptx)")
    out = tmp_path / "report"
    options = ["--queries", suite, "--out", str(out)]
    done = subprocess.run([sys.executable, "scripts/ptx_report.py", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(out.with_suffix(".json").read_text())
    assert len(record["kernels"]) >= least
    for kernel in record["kernels"]:
        assert set(kernel["targets"]) == {"7.2", "8.7", "9.0"} and not kernel["problems"]
        assert all(0 < facts["registers"] <= 64 for facts in kernel["targets"].values())
    assert f"| 7.2 (Xavier) | {len(record['kernels'])} |" in out.with_suffix(".md").read_text()
