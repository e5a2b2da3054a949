"""Training on samples whose truth is known: held-out error, coverage of intervals, the choice of families."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from finequery.errors import InternalError
from finequery.jetson import board as boards
from finequery.perfmodel import families, fit, store
from finequery.perfmodel.analytic import Analytic
from finequery.perfmodel.batch import Batch
from finequery.perfmodel.dataset import Sample
from finequery.perfmodel.families import Candidate
from finequery.perfmodel.features import Features
from finequery.perfmodel.model import Model
from finequery.perfmodel.store import Fitted

NOISE = 0.05
KINDS = ("filter", "probe:hash", "probe:map", "aggregate:dense", "sort:radix sort")
#: Enough of them to choose among, few enough for a test.
FEW = tuple(c for c in families.CANDIDATES if c.family in ("factor", "ridge 0.3", "products 1", "boosting 3"))


def feature(draw: random.Random, model: str) -> Features:
    kind, _, algorithm = model.partition(":")
    rows, share = 2.0 ** draw.uniform(12, 24), draw.random()
    return Features(
        kind, algorithm, rows, rows * share, draw.choice((1, 2, 4, 8.0)), draw.choice((0, 4.0)),
        0.0 if kind == "filter" else draw.choice((4, 8, 32.0)), 2.0 ** draw.uniform(8, 28),
        selectivity=share, match_rate=share, groups=2.0 ** draw.uniform(1, 16) if kind == "aggregate" else 0.0,
        steps=draw.randint(0, 6), columns=draw.randint(1, 4),
    )  # fmt: skip


def truth(f: Features, price: float) -> float:
    """What the analytic price leaves out: mispredicted branches, a table that no longer fits, more threads."""
    branches = 1.0 + 0.8 * 4.0 * f.selectivity * (1.0 - f.selectivity)
    return price * 1.6 * branches * (1.35 if f.random_width and f.table_bytes > 2**22 else 1.0) * (1.0 + 0.03 * f.steps)


@cache
def samples(seed: int, points: int) -> tuple[Sample, ...]:
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    analytic, found = Analytic(boards.load("agx-xavier")), []
    for model in KINDS:
        for _ in range(points):
            f = feature(draw, model)
            for device, threads in (("cpu", 1), ("cpu", 8), ("gpu", 1)):
                price = float(analytic.price(Batch([f]), device, threads).seconds[0, 0])
                took = truth(f, price) * math.exp(noise.normal(0.0, NOISE))
                found.append(Sample(f, device, threads, analytic.clock_ghz(device), 0.0, took, simulated=True))
    return tuple(found)


@cache
def trained() -> tuple[Fitted, ...]:
    return tuple(fit.fit(samples(1, 60), Analytic(boards.load("agx-xavier")), candidates=FEW))


def test_held_out_error_and_coverage() -> None:
    board = boards.load("agx-xavier")
    model = Model(board, store.stored(board.name, True, fit.COVERAGE, trained()), "test", True)
    errors: dict[str, list[float]] = {}
    inside = []
    for s in samples(2, 40):
        (price,) = model.price([s.features], s.device, threads=s.threads)
        errors.setdefault(f"{s.device} {s.features.model}", []).append(abs(price.seconds / s.seconds - 1.0))
        inside.append(price.low <= s.seconds <= price.high)
    assert len(errors) == 2 * len(KINDS)
    for name, each in errors.items():
        assert np.median(each) <= 0.10, (name, np.median(each))
    assert np.median(np.concatenate(list(errors.values()))) <= 0.07
    assert fit.COVERAGE - 0.08 <= np.mean(inside) <= 0.99


def test_extrapolates_by_the_analytic_price() -> None:
    """Ten times the rows that were ever seen: the factor is that of the largest, and the interval is wider."""
    board = boards.load("agx-xavier")
    model = Model(board, store.stored(board.name, True, fit.COVERAGE, trained()), "test", True)
    seen = Features("filter", "", 2.0**23, 2.0**22, 4.0, 0.0, selectivity=0.5, match_rate=0.5, steps=2, columns=1)
    far = Features("filter", "", 2.0**28, 2.0**27, 4.0, 0.0, selectivity=0.5, match_rate=0.5, steps=2, columns=1)
    a, b = model.price([seen], "cpu", threads=8)[0], model.price([far], "cpu", threads=8)[0]
    price = float(Analytic(board).price(Batch([far]), "cpu", 8).seconds[0, 0])
    assert b.seconds == pytest.approx(truth(far, price), rel=0.25)
    assert b.high / b.seconds > a.high / a.seconds


def test_models_and_report() -> None:
    found = trained()
    names = {(m.device, m.model) for m in found}
    assert {(d, m) for d in ("cpu", "gpu") for m in KINDS} <= names
    assert {("cpu", "probe"), ("gpu", "probe")} <= names  # over both algorithms
    assert ("cpu", "sort") not in names and ("cpu", "aggregate") not in names  # of one algorithm
    for m in found:
        assert set(m.errors) == {c.name for c in FEW} and m.low < 0.0 < m.high and m.regressor.check() is None
        assert m.chosen.log <= min(e.log for e in m.errors.values()) / (1 - fit.GAIN) + 1e-12
        assert m.chosen.log < m.errors["factor, analytic"].log
        assert m.samples == m.points * (2 if m.device == "cpu" else 1)
    lines = fit.report(found).splitlines()
    assert len(lines) == len(found) + 2 and all(line.count("*") == 1 for line in lines[2:])
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_a_good_price_needs_no_more_than_a_factor() -> None:
    exact = [s for s in samples(1, 60) if s.features.model == "filter" and s.device == "cpu"]
    analytic = Analytic(boards.load("agx-xavier"))
    noise = np.random.default_rng(0)
    prices = [float(analytic.price(Batch([s.features]), "cpu", s.threads).seconds[0, 0]) for s in exact]
    exact = [replace(s, seconds=2.0 * p * math.exp(noise.normal(0, 0.05))) for s, p in zip(exact, prices)]
    (model,) = fit.fit(exact, analytic, candidates=FEW)
    assert model.family == "factor" and math.exp(model.regressor.bias) == pytest.approx(2.0, rel=0.03)


def test_too_few_points_give_no_model() -> None:
    few = [s for s in samples(1, 60) if s.features.model == "filter"][: 3 * (fit.FEWEST - 1)]
    assert fit.fit(few, Analytic(boards.load("agx-xavier")), candidates=FEW) == []
    assert fit.fit([], Analytic(boards.load("agx-xavier"))) == []


def test_samples_that_teach_nothing_are_left_out() -> None:
    own = [s for s in samples(1, 60) if s.features.model == "filter" and s.device == "gpu"]
    bad = [Sample(s.features, "gpu", 1, 1.0, 0.0, 0.0) for s in own[:5]]
    analytic = Analytic(boards.load("agx-xavier"))
    with_bad, without = (fit.fit(x, analytic, candidates=FEW[:1])[0] for x in ([*own, *bad], own))
    assert with_bad.samples == without.samples and with_bad.regressor.bias == without.regressor.bias


def test_folds_keep_a_point_together() -> None:
    """A family that knows points by heart must not look good: all samples of a point are in one fold."""
    seen: list[set[float]] = []

    def by_heart(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> object:
        seen.append(set(x[:, 0].tolist()))
        return FEW[0].fit(x, y, w)

    own = [s for s in samples(1, 60) if s.features.model == "filter" and s.device == "cpu"]
    fit.fit(own, Analytic(boards.load("agx-xavier")), candidates=[Candidate("by heart", "analytic", by_heart)])  # type: ignore[arg-type]
    *folds, everything = seen
    assert len(folds) == fit.FOLDS and len(everything) == 60
    assert sum(len(everything - fold) for fold in folds) == 60


def test_conformal_ranks() -> None:
    # 19 residuals, 90 %: rank ceil(20·0.95) = 19, the outermost. 99: rank 95 of 99, and its mirror.
    assert fit.conformal(np.arange(-9.0, 10.0), 0.9) == (-9.0, 9.0)
    assert fit.conformal(np.arange(-49.0, 50.0), 0.9) == (-45.0, 45.0)
    assert fit.conformal(np.array([-1.0, 0.5]), 0.9) == (-2.0, 1.0)  # too few
    assert fit.conformal(np.arange(1.0, 100.0), 0.9)[0] == 0.0  # biased residuals: the price itself stays inside


@pytest.mark.parametrize("seed", range(3))
def test_conformal_coverage(seed: int) -> None:
    rng = np.random.default_rng(seed)
    covered = []
    for _ in range(40):
        low, high = fit.conformal(rng.standard_t(3, 80), 0.9)
        new = rng.standard_t(3, 400)
        covered.append(np.mean((low <= new) & (new <= high)))
    assert 0.88 <= np.mean(covered) <= 0.94


def test_inference_that_differs_is_noticed() -> None:
    x, y = np.random.default_rng(0).normal(size=(30, 4)), np.zeros(30)

    def wrong(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> object:
        regressor, predict = FEW[0].fit(x, y, w)
        return regressor, lambda rows: predict(rows) + 0.1

    with pytest.raises(InternalError, match=r"by up to 0\.1"):
        fit.checked(Candidate("wrong", "analytic", wrong), x, y, np.ones(30))  # type: ignore[arg-type]
