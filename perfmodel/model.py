"""The performance model as a scheduler uses it: prices of sub-tasks on devices, with where they come from.

``load_model(board)`` takes, in this order: what this user calibrated for the machine, what came with FineQuery for the
board or the class of CPU, the analytic prices of the board's numbers. ``Model.source`` says which, for EXPLAIN.

    model = load_model(None)
    prices = model.price_all([features of pipeline 1, …], [Variant("cpu", threads=2), Variant("gpu", share=0.5)])
    prices.pipelines().price(variant=0, item=0)
"""

from __future__ import annotations

import atexit
import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from finequery.errors import FileError
from finequery.jetson.board import Board
from finequery.operators.primitives.price_layout import MODEL
from finequery.perfmodel import store
from finequery.perfmodel.analytic import Analytic, Fit, Jobs, Offered, Ways
from finequery.perfmodel.batch import Batch, kind_of
from finequery.perfmodel.compose import Price
from finequery.perfmodel.correct import Correction
from finequery.perfmodel.features import Features
from finequery.perfmodel.trees import Bank, Floats


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run sub-tasks: a device ("cpu" or "gpu"), threads (of the CPU), the share of the rows that it gets, and
    what share of the device others keep busy."""

    device: str
    threads: int = 1
    share: float = 1.0
    load: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Prices of items (sub-tasks, or pipelines) in variants, as arrays whose last dimension is that of the items: of
    shape (variants, items) where every item is priced in every variant. ``starts``: of sub-tasks, the first one of each
    pipeline. ``evaluated``: how many prices of a sub-task in a variant it took."""

    numbers: Floats  # seconds, low, high, bytes and joules of each
    starts: tuple[int, ...] = ()
    evaluated: int = 0

    @property
    def seconds(self) -> Floats:
        return self.numbers[0]

    @property
    def low(self) -> Floats:
        return self.numbers[1]

    @property
    def high(self) -> Floats:
        return self.numbers[2]

    @property
    def nbytes(self) -> Floats:
        return self.numbers[3]

    @property
    def joules(self) -> Floats:
        return self.numbers[4]

    def price(self, variant: int, item: int) -> Price:
        """One of them."""
        return Price(*self.numbers[:, variant, item].tolist())

    def pipelines(self) -> Prices:
        """The prices of pipelines: what its sub-tasks take in one adds up."""
        return Prices(np.add.reduceat(self.numbers, self.starts, axis=-1), (), self.evaluated)


class Model:
    """Prices sub-tasks on one machine. ``source`` says where prices come from; ``simulated``: they are of a simulated
    board. ``correction`` learns from runs (perfmodel/correct.py). ``analytic`` has what a price leaves out: what every
    batch on a GPU costs (``batch_seconds``); a machine's power at rest is in its ``board``.

    The price of a sub-task is its share of its pipeline's time, so that prices of a pipeline add up. On a real machine
    that is what was measured. On a simulated board, and by the analytic formula, it is what the sub-task takes alone
    times what the formula says of the fused pipeline over the sum of its sub-tasks: the streaming of one hides behind
    the arithmetic of another."""

    def __init__(
        self,
        board: Board | None,
        fitted: store.Stored | None = None,
        source: str = "",
        simulated: bool = False,
        correction: Correction | None = None,
    ):
        self.analytic = Analytic(board)
        self.fitted = fitted
        self.source = source or self.analytic.source
        self.simulated = simulated
        self.correction = Correction() if correction is None else correction
        models = fitted.models if fitted is not None else ()
        self._index = {(m.model, m.device): i for i, m in enumerate(models)}
        self._fit = Fit(
            Bank([m.regressor for m in models]) if models else None,
            np.array([float(m.base == "rows") for m in models]),
            np.array([m.low for m in models], np.float64),
            np.array([m.high for m in models], np.float64),
            adds_up=fitted is not None and not fitted.simulated,
        )
        self._numbers: dict[str, int] = {}  # of the models that were met
        self._models = np.zeros((0, len(MODEL)))  # a row for each of these
        self._learned = 0  # runs that are in their factors
        self._lock = threading.Lock()

    def price_all(
        self, pipelines: Sequence[Sequence[Features]], variants: Sequence[Variant], corrected: bool = True
    ) -> Prices:
        """All sub-tasks of pipelines (or of parts of them, each of one or more) in all variants. What stands in several
        of them is priced once. ``corrected``: with what was learned from runs."""
        different = {id(f): f for pipeline in pipelines for f in pipeline}
        row = {key: number for number, key in enumerate(different)}
        asked = Jobs(self.met([f.model for f in different.values()]))
        fused = [asked.pipeline([row[id(f)] for f in pipeline]) for pipeline in pipelines]
        for number in range(len(variants)):
            for pipeline in fused:
                asked.add(pipeline, [number])
        found = self.price_jobs(Batch([*different.values()]).table, asked, self.states(variants), corrected)
        numbers = found.numbers.reshape(5, len(variants), -1)
        return Prices(numbers, found.starts[: len(pipelines)], found.evaluated)

    def price_jobs(self, subtasks: Floats, asked: Jobs, states: Floats, corrected: bool = True) -> Prices:
        """The sub-tasks of all jobs, one after another. ``subtasks``: rows of perfmodel.batch.numbers, the models of
        which were ``met``; ``states``: those of the variants."""
        models = self._models
        if not corrected and self.correction.learned:
            models = models.copy()
            models[:, -2:] = 0.0
        out, evaluated = self.analytic.evaluate(subtasks, models, states, asked, self._fit)
        return Prices(out, tuple(asked.starts), evaluated)

    def offers(self, subtasks: Floats, names: Sequence[str], states: Floats, ways: Ways) -> Offered:
        """Candidates for pipelines with what they take, of the prices of their sub-tasks (of models ``names``)."""
        model_of = np.array(self.met(names), np.int64)
        return self.analytic.offers(subtasks, model_of, self._models, states, self._fit, ways)

    def price(
        self,
        features: Sequence[Features],
        device: str,
        *,
        threads: int = 1,
        share: float = 1.0,
        load: Mapping[str, float] = {},
    ) -> list[Price]:
        """The price of each sub-task on a device. ``load``: by device, the share that others keep busy."""
        prices = self.price_all([features], [Variant(device, threads, share, load.get(device, 0.0))])
        return [prices.price(0, i) for i in range(len(features))]

    def states(self, variants: Sequence[Variant]) -> Floats:
        """Variants as ``price_jobs`` reads them. Raises NotSupportedError for a device that the board does not have."""
        return np.array([self.analytic.state(v.device, v.threads, v.share, v.load) for v in variants])

    def met(self, names: Sequence[str]) -> list[int]:
        """The numbers of models (``Features.model``), with what was learned of them up to now."""
        if self._learned != self.correction.runs or not self._numbers.keys() >= set(names):
            with self._lock:
                known = [*self._numbers, *(set(names) - self._numbers.keys())]
                self._learned = self.correction.runs
                self._models = np.array([self._model(name) for name in known]).reshape(-1, len(MODEL))
                self._numbers = {name: number for number, name in enumerate(known)}
        return [self._numbers[name] for name in names]

    def _model(self, name: str) -> tuple[float, ...]:
        """A model with its regressors and what was learned of it."""
        devices = ("cpu", "gpu")
        learned = [math.log(self.correction.factor(device, name)) for device in devices]
        return self.analytic.coefficients(name, (*(self._find(device, name) for device in devices), *learned))

    def _find(self, device: str, model: str) -> int:
        """The regressor of an algorithm, else of its kind, else -1."""
        found = self._index.get((model, device))
        return self._index.get((kind_of(model), device), -1) if found is None else found

    def observe(self, runs: Sequence[tuple[Sequence[Features], Variant, float]]) -> None:
        """Learn from pipelines that ran: their sub-tasks with what the run has seen of them (true rows, not estimates),
        how they ran, and the seconds that it took. What a batch on the GPU costs by itself is not learned from."""
        runs = [run for run in runs if run[0]]
        if not runs:
            return
        variants = list(dict.fromkeys(variant for _, variant, _ in runs))
        prices = self.price_all([features for features, _, _ in runs], variants, corrected=False)
        ends = [*prices.starts[1:], prices.seconds.shape[1]]
        for i, (features, variant, measured) in enumerate(runs):
            v = variants.index(variant)
            each = prices.seconds[v, prices.starts[i] : ends[i]]
            parts = [(variant.device, f.model, t) for f, t in zip(features, each.tolist())]
            self.correction.observe(parts, measured - self.analytic.batch_seconds(variant.device))

    def at(self, board: Board) -> Model:
        """This model for the same machine at other clocks (jetson.board.at_clocks): the same factors, to the analytic
        prices of ``board``. What is learned goes into one correction."""
        fitted = None if self.fitted is None else _factors(self.fitted)
        return Model(board, fitted, self.source, self.simulated, self.correction)


def _factors(fitted: store.Stored) -> store.Stored:
    """Those of a model's regressors that are factors to analytic prices: they hold at other clocks as well."""
    return replace(fitted, models=tuple(m for m in fitted.models if m.base == "analytic"))


def load_model(board: Board | None = None, *, strict: bool = False, corrected: bool = True) -> Model:
    """The best model there is for a board; None: the machine that runs. A model file that is refused costs a warning,
    and the next in order is taken and ``Model.source`` says so; with ``strict`` it is a FileError. ``corrected``: with
    what runs on the real board have taught, which a simulated one knows nothing of.

    A power mode without a model takes that of the board's first mode, as factors over its own analytic prices."""
    name = "host" if board is None else board.name
    simulated = name != "host"
    said = ""
    for of, path, what in _candidates(name):
        try:
            fitted = _read(path, path.stat().st_mtime_ns)
        except FileNotFoundError:
            continue
        except FileError as error:
            if strict:
                raise
            warnings.warn(str(error), stacklevel=2)
            said = f" (the {what} was refused: {error.message})"
            continue
        if of != name:
            fitted = _factors(fitted)
            what = f"{name} by factors of the {what}"
        origin = "simulated" if fitted.simulated else "measured"
        source = f"{what} of {fitted.created[:10]}, {fitted.samples:,} {origin} samples{said}"
        return Model(board, fitted, source, simulated, _correction(fitted.digest, name) if corrected else None)
    model = Model(board, None, "", simulated, _correction("analytic", name) if corrected else None)
    model.source += said
    return model


def _correction(base: str, name: str) -> Correction:
    """What was learned over a model on a board, and will be by this process."""
    correction = Correction(base, store.correction_path(name))
    atexit.register(correction.flush)
    return correction


def _candidates(name: str) -> Iterator[tuple[str, Path, str]]:
    """Board, file and description of the models that may price a board, the best first."""
    for of in dict.fromkeys((name, name.partition(":")[0])):
        yield of, store.user_path(of), f"model calibrated for {'this machine' if of == 'host' else of}"
        yield of, store.shipped_path(of), f"model shipped for {store.cpu_class() if of == 'host' else of}"


@lru_cache(maxsize=16)
def _read(path: Path, changed: int) -> store.Stored:
    return store.load(path)
