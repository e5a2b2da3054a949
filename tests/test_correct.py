"""Online correction: lowers the error of a biased model, is bounded, survives outliers, damage and restarts."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from finequery.perfmodel.correct import BOUND, EVERY, Correction

TRUE = {("cpu", "filter"): 1.8, ("cpu", "probe:hash"): 0.6, ("gpu", "filter"): 1.0, ("cpu", "sort"): 2.5}


def workload(runs: int, seed: int, noise: float = 0.05) -> list[tuple[list[tuple[str, str, float]], float]]:
    """Pipelines of up to three sub-tasks: what a model with wrong factors predicts, and what they take."""
    draw = random.Random(seed)
    found = []
    for _ in range(runs):
        device = draw.choice(["cpu", "cpu", "gpu"])
        models = draw.choices([m for d, m in TRUE if d == device], k=draw.randint(1, 3))
        parts = [(device, m, 10 ** draw.uniform(-4, -1)) for m in models]
        took = sum(t * TRUE[device, m] for _, m, t in parts) * draw.lognormvariate(0.0, noise)
        found.append((parts, took))
    return found


def error(correction: Correction, runs: list[tuple[list[tuple[str, str, float]], float]]) -> float:
    """Mean of abs(ln(predicted / measured))."""
    each = [abs(math.log(sum(t * correction.factor(d, m) for d, m, t in parts) / took)) for parts, took in runs]
    return sum(each) / len(each)


def test_lowers_the_error_over_a_workload() -> None:
    correction, held_out = Correction(), workload(200, seed=2)
    before = error(correction, held_out)
    for parts, took in workload(300, seed=1):
        correction.observe(parts, took)
    after = error(correction, held_out)
    assert before > 0.3 and after < 0.1, (before, after)
    for key, factor in TRUE.items():
        assert correction.factor(*key) == pytest.approx(factor, rel=0.15), key
    assert correction.factor("gpu", "sort") == 1.0


def test_a_right_model_is_left_alone() -> None:
    correction = Correction()
    for parts, _ in workload(100, seed=1):
        correction.observe(parts, sum(t for *_, t in parts) * random.Random(1).lognormvariate(0, 0.02))
    assert all(abs(math.log(correction.factor(*key))) < 0.03 for key in TRUE)


def test_outliers_do_not_break_it() -> None:
    clean, dirty = Correction(), Correction()
    draw, held_out = random.Random(3), workload(200, seed=2)
    for parts, took in workload(300, seed=1):
        clean.observe(parts, took)
        dirty.observe(parts, took * (1000.0 if draw.random() < 0.1 else 1.0))
    assert error(dirty, held_out) < error(clean, held_out) + 0.12
    for nonsense in (0.0, -1.0, math.nan, math.inf, 1e-9):
        dirty.observe([("cpu", "filter", 0.01)], nonsense)
    factor = dirty.factor("cpu", "filter")
    dirty.observe([("cpu", "filter", math.nan), ("cpu", "filter", 0.0)], 1.0)
    dirty.observe([], 1.0)
    assert dirty.factor("cpu", "filter") == factor and 1 / BOUND <= factor <= BOUND


def test_one_run_moves_little_and_many_are_bounded() -> None:
    correction = Correction()
    correction.observe([("cpu", "filter", 0.01)], 0.015)
    assert 1.0 < correction.factor("cpu", "filter") < 1.2
    for _ in range(500):
        correction.observe([("cpu", "filter", 0.001)], 10.0)
        correction.observe([("cpu", "sort", 10.0)], 0.001)
    assert correction.factor("cpu", "filter") <= BOUND and correction.factor("cpu", "sort") >= 1 / BOUND
    assert correction.factor("cpu", "filter") > 2.5 and correction.factor("cpu", "sort") < 0.4


def test_follows_a_change() -> None:
    correction = Correction()
    for factor in (2.0, 0.7):  # say, another power mode
        for _ in range(120):
            correction.observe([("cpu", "filter", 0.01)], 0.01 * factor)
        assert correction.factor("cpu", "filter") == pytest.approx(factor, rel=0.1)


def test_kept_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "models" / "host.corrections.json"
    first = Correction("model a", path)
    first.save()
    assert not path.exists()  # nothing learned
    for parts, took in workload(50, seed=1):
        first.observe(parts, took)
    first.save()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    again = Correction("model a", path)
    assert again.learned
    assert all(again.factor(*key) == pytest.approx(first.factor(*key)) for key in TRUE)
    assert not Correction("model b", path).learned  # factors over another model say nothing


def test_written_every_so_many_runs(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    correction = Correction("a", path)
    for n in range(EVERY):
        assert not path.exists(), n
        correction.observe([("cpu", "filter", 0.01)], 0.02)
    assert Correction("a", path).factor("cpu", "filter") == correction.factor("cpu", "filter") > 1.5


def test_nowhere_to_write_stops_no_query(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    correction = Correction("a", tmp_path / "x.json")
    correction.path = blocked / "x.json"
    for _ in range(EVERY + 1):
        correction.observe([("cpu", "filter", 0.01)], 0.02)
    assert correction.learned
    with pytest.raises(OSError):
        correction.save()


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"version": 1, "base": "a", "states": {"x": 1}}',
                                    '{"version": 1, "base": "a", "states": {"cpu x": [1e999, NaN]}}'])  # fmt: skip
def test_damaged_files_cost_a_warning(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(damage)
    with pytest.warns(UserWarning, match="damaged"):
        correction = Correction("a", path)
    assert not correction.learned
    correction.observe([("cpu", "filter", 0.01)], 0.02)
    correction.save()
    assert Correction("a", path).learned and json.loads(path.read_text())["version"] == 1
