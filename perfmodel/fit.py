"""Training: from samples to regressors, with the family chosen by cross-validation.

For every model (``Features.model``: kind and algorithm) and device, candidates of several families are fitted to the
logarithm of a ratio: seconds over the analytic price (perfmodel/analytic.py), or over the rows (over n log n for
sorts). What the ratio is taken to brings the extrapolation; the regressor learns the rest, and is constant outside of
what it saw. Candidates are judged by the mean of abs(ln(predicted / measured)) over folds that keep all samples of one
point (the same sub-task on other threads or loads) together; a simpler one wins unless a later one is better by
``GAIN``.

Intervals are split-conformal over the out-of-fold residuals (Lei et al., "Distribution-Free Predictive Inference for
Regression", JASA 2018): the rank ceil((n + 1)(1 - a/2)) of the residuals and its mirror, so that ``COVERAGE`` of new
points from the same distribution lie inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from finequery.errors import InternalError
from finequery.perfmodel.analytic import Analytic
from finequery.perfmodel.batch import Batch, matrix, units
from finequery.perfmodel.dataset import Sample
from finequery.perfmodel.families import CANDIDATES, Candidate
from finequery.perfmodel.features import Features
from finequery.perfmodel.store import Errors, Fitted
from finequery.perfmodel.trees import Floats, Regressor, alone

#: Share of new points that an interval is to hold.
COVERAGE = 0.9
FOLDS = 5
#: By how much of its error a candidate has to be better than all simpler ones.
GAIN = 0.03
#: A model needs this many different points, otherwise the kind's model (of all algorithms) stands in.
FEWEST = 12


def fit(
    samples: Sequence[Sample],
    analytic: Analytic,
    *,
    coverage: float = COVERAGE,
    candidates: Sequence[Candidate] = CANDIDATES,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Fitted]:
    """A model for every kind and algorithm with enough points, on each device, and for every kind over all its
    algorithms. ``analytic``: of the machine that the samples are from.

    Samples that took no time or have no price teach nothing and are left out."""
    usable = [s for s in samples if s.seconds > 0.0 and s.weight > 0.0]
    parts: dict[tuple[str, str], list[Sample]] = {}
    for sample in usable:
        for model in dict.fromkeys((sample.features.model, sample.features.kind)):
            parts.setdefault((sample.device, model), []).append(sample)
    found = []
    for (device, model), own in sorted(parts.items()):
        algorithms = {s.features.model for s in own}
        if len(algorithms) == 1 and model not in algorithms and (device, min(algorithms)) in parts:
            continue  # of a kind with one algorithm that algorithm's model is all there is
        fitted = _fit(model, device, own, analytic, coverage, candidates)
        if fitted is not None:
            progress(f"{device} {model}: {fitted.family} over {fitted.base}, {100 * fitted.chosen.median:.1f} %")
            found.append(fitted)
    return found


def _fit(
    model: str,
    device: str,
    samples: Sequence[Sample],
    analytic: Analytic,
    coverage: float,
    candidates: Sequence[Candidate],
) -> Fitted | None:
    batch = Batch([s.features for s in samples])
    threads, clocks, load = (np.array([[getattr(s, n)] for s in samples]) for n in ("threads", "clock_ghz", "load"))
    prices = analytic.price(batch, device, threads, load=load).seconds[:, 0]
    groups = _groups(samples)
    points = int(groups.max()) + 1
    if points < FEWEST or not (prices > 0.0).all():
        return None
    levels = analytic.caches(device)
    x = matrix(batch, threads, clocks, load, levels=levels)[:, 0, :-1].astype(np.float64)
    seconds = np.array([s.seconds for s in samples])
    weights = np.array([s.weight for s in samples])
    bases = {"analytic": np.log(prices), "rows": np.log(units(batch)[:, 0])}
    errors: dict[str, Errors] = {}
    residuals: dict[str, Floats] = {}
    best: Candidate | None = None
    for candidate in candidates:
        y = np.log(seconds) - bases[candidate.base]
        left = residuals[candidate.name] = y - _out_of_fold(candidate, x, y, weights, groups)
        errors[candidate.name] = _errors(left, weights)
        if best is None or errors[candidate.name].log < (1.0 - GAIN) * errors[best.name].log:
            best = candidate
    assert best is not None
    regressor = checked(best, x, np.log(seconds) - bases[best.base], weights)
    low, high = conformal(residuals[best.name], coverage)
    return Fitted(model, device, best.family, best.base, regressor, low, high, len(samples), points, errors)


def checked(candidate: Candidate, x: NDArray, y: NDArray, weights: NDArray) -> Regressor:
    """Fit, and see that the compiled inference says what scikit-learn says."""
    regressor, predict = candidate.fit(x, y, weights)
    ours = alone(regressor, x)
    theirs = predict(x)
    if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
        worst = float(np.abs(ours - theirs).max())
        raise InternalError(f"{candidate.name}: compiled inference differs from scikit-learn by up to {worst:g}")
    return regressor


def conformal(residuals: Floats, coverage: float) -> tuple[float, float]:
    """Ends of the interval as ln of factors to the prediction: the residual of rank ceil((n + 1)(1 - a/2)), and its
    mirror, with a = 1 - coverage. With so few residuals that there is no such rank, the outermost ones doubled."""
    ordered, n = np.sort(residuals), len(residuals)
    rank = math.ceil((n + 1) * (1.0 - (1.0 - coverage) / 2.0))
    if rank > n:
        return min(2.0 * float(ordered[0]), 0.0), max(2.0 * float(ordered[-1]), 0.0)
    return min(float(ordered[n - rank]), 0.0), max(float(ordered[rank - 1]), 0.0)


def report(fitted: Sequence[Fitted]) -> str:
    """The choice of families as a table: error in % of out-of-fold predictions, of every family's best candidate (the
    median over samples); * marks the chosen one."""
    families = list(dict.fromkeys(c.name for c in CANDIDATES))
    head = ["device", "model", "points", "median", "mean", "p90", *families]
    rows = [head]
    for f in fitted:
        chosen = f.chosen
        cells = [
            f.device,
            f.model,
            str(f.points),
            *(f"{100 * e:.1f}" for e in (chosen.median, chosen.mean, chosen.p90)),
        ]
        for name in families:
            error = f.errors.get(name)
            mark = "*" if name == f"{f.family}, {f.base}" else ""
            cells.append("" if error is None else f"{100 * error.median:.1f}{mark}")
        rows.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows[1:]])


def _groups(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """The number of each sample's point: samples of the same sub-task have the same."""
    seen: dict[Features, int] = {}
    return np.array([seen.setdefault(s.features, len(seen)) for s in samples])


def _out_of_fold(candidate: Candidate, x: NDArray, y: NDArray, weights: NDArray, groups: NDArray) -> Floats:
    fold_of = np.random.default_rng(0).permutation(int(groups.max()) + 1) % FOLDS
    fold = fold_of[groups]
    predicted = np.empty(len(y))
    for part in range(FOLDS):
        train, test = fold != part, fold == part
        if test.any():
            regressor, _ = candidate.fit(x[train], y[train], weights[train])
            predicted[test] = alone(regressor, x[test])
    return predicted


def _errors(residuals: Floats, weights: Floats) -> Errors:
    relative = np.abs(np.expm1(-residuals))  # predicted / measured = exp(-residual)
    order = np.argsort(relative)
    sums = np.cumsum(weights[order])

    def quantile(q: float) -> float:
        return float(relative[order][min(int(np.searchsorted(sums, q * sums[-1])), len(order) - 1)])

    average = float(np.average(relative, weights=weights))
    return Errors(quantile(0.5), average, quantile(0.9), float(np.average(np.abs(residuals), weights=weights)))
