"""Every query of TPC-H and SSB under placements drawn at random: whatever the model says, the answer is the same. The
second device is posed by threads; morsels are small, so that small tables have many."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from compare import assert_same
from conftest import Engines, connect, connect_duckdb, set_morsel

from finequery import workloads
from finequery.planner import candidates, scheduler

QUERIES = sorted([*(workloads.QUERIES / "tpch").glob("*.sql"), *(workloads.QUERIES / "ssb").glob("*.sql")])


@pytest.fixture(scope="module")
def engines(tpch_dir: Path, ssb_dir: Path) -> Iterator[dict[str, Engines]]:
    made = {}
    for name, folder in (("tpch", tpch_dir), ("ssb", ssb_dir)):
        made[name] = Engines(connect(), connect_duckdb())
        tiny.fill(made[name].duck, name, folder)
        tiny.load(made[name].con, made[name].duck, name)
        made[name].con.execute("set board = 'agx-xavier'")
    yield made


@pytest.mark.parametrize("path", QUERIES, ids=lambda p: f"{p.parent.name}-{p.stem}")
@pytest.mark.parametrize("seed", range(3))
def test_answers(path: Path, seed: int, engines: dict[str, Engines], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(zlib.crc32(f"{path.stem} {seed}".encode()))
    found: list[Any] = []
    place = scheduler.place

    def draw(*asked: Any) -> Any:
        schedule = place(*asked)
        for item in schedule.placed:
            item.chosen = drawn.choice(item.candidates)
            found.append(item.chosen)
        return schedule

    set_morsel(monkeypatch, 256)
    monkeypatch.setattr(candidates, "FEW_ROWS", 1)
    monkeypatch.setattr(scheduler, "place", draw)
    one = engines[path.parent.name]
    one.con.execute(f"set gpu_load = {0.001 * (seed + 1)}")  # another scheduler for the same plan
    assert_same(*one, path.read_text())
    assert {c.placement.device for c in found} <= {"cpu", "gpu", "both", "phases"} and found
