"""scripts/experiments.py: its judge, its policies, and the whole of it over tiny data."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import experiments
import experiments_patterns as patterns
import pytest
from experiments_plans import Kept, Plan, continued
from experiments_policies import hls_share
from experiments_search import best, options, seconds

from finequery.jetson import board as boards
from finequery.operators.context import CPU, GPU
from finequery.perfmodel.features import Features
from finequery.perfmodel.model import load_model
from finequery.planner.candidates import SHARES
from finequery.planner.placement import place
from finequery.planner.stages import Part, Site

BOARD = boards.load("agx-xavier")
SITE = Site(BOARD, BOARD.cpu.cores)


def part(number: int, after: tuple[int, ...], *features: Features) -> Part:
    """A pipeline whose probes read those of ``after`` in turn."""
    reads = iter(after)
    subtasks = [
        SimpleNamespace(
            kind=f.kind,
            reads=(next(reads),) if f.kind in ("probe", "read") else (),
            item=SimpleNamespace(table=SimpleNamespace(name="t")),
        )
        for f in features
    ]
    return Part(Kept(number, after, subtasks), features)  # type: ignore[arg-type]


def build(number: int, rows: float) -> Part:
    scan = Features("scan", rows=rows, rows_out=rows)
    return part(
        number, (), scan, Features("build", "hash", rows, rows, 8.0, random_width=16.0, table_bytes=32.0 * rows)
    )


def plan(rows: float = 4e6) -> Plan:
    """Two builds, a pipeline that looks up in both, and a sort of its groups."""
    probes = part(
        *(3, (1, 2), Features("scan", rows=rows, rows_out=rows)),
        Features("filter", rows=rows, rows_out=rows / 2, bytes_in=4.0, selectivity=0.5, steps=1.0, columns=1.0),
        Features("probe", "hash", rows / 2, rows / 4, 4.0, random_width=16.0, table_bytes=3.2e6, match_rate=0.5),
        Features("probe", "hash", rows / 4, rows / 4, 4.0, random_width=16.0, table_bytes=3.2e4),
        Features("aggregate", "hash", rows / 4, 1e4, 8.0, random_width=24.0, table_bytes=4.8e5, groups=1e4, steps=2.0),
    )
    sort = part(4, (3,), Features("read", rows=1e4, rows_out=1e4), Features("sort", "radix sort", 1e4, 1e4, 16.0))
    parts = [build(1, 1e5), build(2, 1e3), probes, sort]
    return Plan("made", 1.0, parts, parts, {}, {3: (1, 2)})


def test_best_of_sequential_plans_is_that_of_trying_them_all() -> None:
    made = plan()
    ways = [options(made, 0, False), options(made, 1, False), [CPU, GPU, *options(made, 2, False)[5:8]], [CPU, GPU]]
    least = min(seconds(made.true, choice, SITE) for choice in itertools.product(*ways[:2], ways[2], ways[3]))
    found = best(made, SITE)
    assert found.exact
    assert found.seconds <= least * (1 + 1e-9)
    assert seconds(made.true, found.placements, SITE) == pytest.approx(found.seconds)


@pytest.mark.parametrize("name", ["agx-xavier", "agx-xavier:10W", "orin-nano"])
def test_chosen_plan_is_near_the_best(name: str) -> None:
    board = boards.load(name)
    site, made = Site(board, board.cpu.cores), plan()
    schedule = place(made.true, site, load_model(board), made.asked())
    chosen = [p.chosen.placement for p in schedule.placed]
    took = seconds(made.true, chosen, site)
    assert took <= 1.15 * best(made, site, [chosen]).seconds
    assert schedule.price.seconds == pytest.approx(took, rel=0.15)


def test_a_busy_gpu_gets_less() -> None:
    made, model, part_of = plan(), load_model(BOARD), []
    for load in (0.0, 0.5, 0.8, 0.95):
        site = dataclasses.replace(SITE, load={"gpu": load})
        placed = made.second_run(site, model).placed
        took = seconds(made.true, [p.chosen.placement for p in placed], site)
        assert took <= 1.02 * min(seconds(made.true, [device] * 4, site) for device in (CPU, GPU))
        chosen = placed[2].chosen.placement
        part_of.append({"gpu": 1.0, "cpu": 0.0}.get(chosen.device, chosen.share))
    # a step of the grid more or less is worth less than what a search has to gain
    assert all(more <= less + SHARES[1] - SHARES[0] for less, more in itertools.pairwise(part_of))
    assert part_of[-1] < part_of[0]


def test_wrong_patterns_cost() -> None:
    made = plan()
    own = seconds(made.true, [GPU] * 4, SITE)
    assert patterns.run(made.true, [GPU] * 4, SITE, patterns.ranges_on_gpu).seconds > own
    assert patterns.run(made.true, [GPU] * 4, SITE, patterns.strides_on_cpu).seconds == pytest.approx(own)
    own = seconds(made.true, [CPU] * 4, SITE)
    assert patterns.run(made.true, [CPU] * 4, SITE, patterns.strides_on_cpu).seconds >= own


def test_continued_plans_grow_as_they_did() -> None:
    small, large = plan(4e5), dataclasses.replace(plan(4e6), scale=10.0)
    grown = continued(small, large, 100.0)
    assert grown.scaled
    assert [f.rows for f in grown.true[2].features] == pytest.approx([10 * f.rows for f in large.true[2].features])
    assert grown.true[0].features == large.true[0].features  # a table of one size
    assert grown.true[2].features[-1].groups == 1e4


def test_look_ahead_gives_shares_by_speed() -> None:
    assert hls_share(1.0, 1.0) == pytest.approx(0.5, abs=0.1)
    assert hls_share(3.0, 1.0) == pytest.approx(0.75, abs=0.1)
    assert hls_share(1e3, 1.0) == pytest.approx(15 / 16)  # after ten of one device, one for the other


def test_quick(tmp_path: Path) -> None:
    """All of it, over data as small as it gets; two runs write the same."""

    def run(name: str) -> dict[str, str]:
        folder = tmp_path / name
        options = ["--quick", "--quiet", "--data", str(tmp_path / "data"), "--docs", str(folder), "--json", str(folder)]
        assert experiments.main(options) == 0
        return {f.name: f.read_text() for f in folder.rglob("*.*")}

    first = run("a")
    text = first["experiments.md"]
    for heading in ("## 1. Regret", "## 2. Error", "## 3. Latency", "## 4. Bandwidth", "## 5. Against", "## 7. Where"):
        assert heading in text
    assert "simulated" in text
    for svg in (f for f in first if f.endswith(".svg")):
        assert f"experiments/{svg}" in text
        assert "simulated" in first[svg]
    cells = json.loads(first["query.json"])
    assert all(cell["simulated"] for cell in cells)
    assert {n["query"] for c in cells if c["suite"] == "tpch" for n in c["numbers"]} >= {"q01", "q22"}
    for cell in cells:
        for n in cell["numbers"]:
            assert n["best_ms"] <= min(n["chosen_ms"], n["first_ms"]) * 1.0001 if "best_ms" in n else True
    placing = json.loads(first["placing.json"])
    assert not any(cell["simulated"] for cell in placing) and "## 8. What placing costs" in text
    second = run("b")
    for found in (first, second):  # what is measured is not the same twice; what it was spent on is
        for cell in (cells := json.loads(found.pop("placing.json"))):
            assert all(n.pop("ms") > 0 and n.pop("analytic_ms") > 0 for n in cell["numbers"])
        found["counts"] = json.dumps(cells)
        found["experiments.md"] = found["experiments.md"].partition("## 8.")[0]
    assert second == first


def test_cost_of_placing_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiments.md").write_text("# Before\n\n## 8. What placing costs\n\nold\n")
    folders = ["--data", str(tmp_path / "data"), "--docs", str(tmp_path), "--json", str(tmp_path)]
    assert experiments.main(["--quick", "--placing", *folders]) == 0
    page = (tmp_path / "experiments.md").read_text()
    assert page.startswith("# Before\n\n## 8. What placing costs\n\n**Measured**") and "old" not in page
    assert {cell["what"] for cell in json.loads((tmp_path / "placing.json").read_text())} == {"placing"}
    lines = capsys.readouterr().out.splitlines()
    (board, *_) = [n for n, line in enumerate(lines) if "Xavier" in line and ", tpch, SF" in line]
    assert lines[board + 1].split() == ["query", "pipelines", "sub-tasks", "prices", "plans", "ms", "analytic"]
    assert lines[board + 2].startswith("q01") and lines[board + 24].startswith("mean")
