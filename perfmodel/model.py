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
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finequery.errors import FileError
from finequery.jetson.board import Board
from finequery.perfmodel import store
from finequery.perfmodel.analytic import Analytic
from finequery.perfmodel.batch import Batch, kind_of, matrix, units
from finequery.perfmodel.compose import Price
from finequery.perfmodel.correct import Correction
from finequery.perfmodel.features import Features
from finequery.perfmodel.trees import Bank, Floats

#: The interval of an analytic price, as ln of a factor either way: no data says how far off it is.
_UNKNOWN = math.log(2.0)


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
    """Prices of items (sub-tasks, or pipelines) in every variant, as arrays of shape (variants, items). ``starts``: of
    sub-tasks, the first one of each pipeline."""

    seconds: Floats
    low: Floats
    high: Floats
    nbytes: Floats
    joules: Floats
    starts: tuple[int, ...] = ()

    def price(self, variant: int, item: int) -> Price:
        """One of them."""
        at = variant, item
        return Price(*(float(part[at]) for part in (self.seconds, self.low, self.high, self.nbytes, self.joules)))

    def pipelines(self) -> Prices:
        """The prices of pipelines: what its sub-tasks take in one adds up."""
        every = np.stack([self.seconds, self.low, self.high, self.nbytes, self.joules])
        seconds, low, high, nbytes, joules = np.add.reduceat(every, self.starts, axis=2)
        return Prices(seconds, low, high, nbytes, joules)


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
        self._adds_up = fitted is not None and not fitted.simulated
        models = fitted.models if fitted is not None else ()
        self._bank = Bank([m.regressor for m in models]) if models else None
        self._index = {(m.model, m.device): i for i, m in enumerate(models)}
        self._by_rows = np.array([m.base == "rows" for m in models], np.bool_)
        self._low, self._high = (np.array([getattr(m, end) for m in models]) for end in ("low", "high"))

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

    def price_all(
        self, pipelines: Sequence[Sequence[Features]], variants: Sequence[Variant], corrected: bool = True
    ) -> Prices:
        """All sub-tasks of pipelines (or of parts of them, each of one or more) in all variants. What stands in several
        of them is priced once. ``corrected``: with what was learned from runs."""
        flat = [f for pipeline in pipelines for f in pipeline]
        found = {id(f): f for f in flat}
        names = {key: f.model for key, f in found.items()}
        keys = sorted(found, key=names.__getitem__)  # a regressor's rows together
        batch = Batch([found[key] for key in keys], [names[key] for key in keys])
        row = {key: i for i, key in enumerate(keys)}
        rows = np.array([row[id(f)] for f in flat], np.intp)
        sizes = np.array(list(map(len, pipelines)), np.intp)
        starts = np.cumsum(sizes) - sizes
        order = sorted(range(len(variants)), key=lambda i: variants[i].device)
        grouped = [variants[i] for i in order]
        prices, moved, fusion, joules_a_byte = self._price(batch, grouped, rows, starts, corrected)
        prices = np.take(prices, rows, axis=1)  # (numbers, sub-tasks, variants)
        if fusion is not None:
            prices *= np.repeat(fusion, sizes, axis=0)
        prices[3] += moved * joules_a_byte
        if order != list(range(len(order))):
            back = np.argsort(order)
            prices, moved = prices[:, :, back], moved[:, back]
        s, low, high, joules = prices.transpose(0, 2, 1)
        return Prices(s, low, high, moved.T, joules, tuple(starts.tolist()))

    def _price(
        self, batch: Batch, variants: Sequence[Variant], rows: NDArray, starts: NDArray, corrected: bool
    ) -> tuple[Floats, Floats, Floats | None, Floats]:
        """Seconds, low, high, and joules without those of the bytes, each (sub-tasks of the batch, variants), of
        sub-tasks alone; bytes of the pipelines' sub-tasks (sub-tasks of pipelines, variants), where what one streams
        may push out what another does; what pipelines take over the sum of their sub-tasks (pipelines, variants);
        joules of a byte. The variants of a device stand together; the pipelines' sub-tasks are ``rows`` of the
        batch."""
        state = np.array([(v.threads, v.share, v.load) for v in variants], np.float64).T
        shape = len(batch), len(variants)
        out, seconds, moved = np.empty((4, *shape)), np.empty(shape), np.empty((len(rows), shape[1]))
        of = np.zeros(len(rows), np.intp)  # the pipeline of each
        of[starts[1:]] = 1
        of = np.cumsum(of)
        clocks, levels, joules_a_byte = np.empty(shape[1]), np.empty((3, shape[1])), np.empty(shape[1])
        which, factors = np.empty(shape, np.int32), np.zeros(shape)
        fusion = None if self._adds_up else np.ones((len(starts), shape[1]))
        first = 0
        for device, same in groupby(variants, key=lambda v: v.device):
            at = slice(first, first + len(list(same)))
            first = at.stop
            terms, most = self.analytic.terms(batch, device), batch["rows"]
            whole = np.add.reduceat(terms[:, rows], starts, axis=1)
            moved[:, at] = self.analytic.traffic(device, terms[:, rows], whole[:, of]) * state[1, at]
            if fusion is not None:  # behind the sub-tasks, the pipelines
                terms = np.concatenate([terms, whole], axis=1)
                most = np.concatenate([most, np.maximum.reduceat(most[rows], starts)])
            found = self.analytic.seconds(device, terms, most, *state[:, at])
            alone = found.seconds[: len(batch)]
            if fusion is not None:
                parts = np.add.reduceat(alone[rows], starts)
                np.divide(found.seconds[len(batch) :], parts, out=fusion[:, at], where=parts > 0)
            seconds[:, at] = alone
            out[3, :, at] = found.watts[: len(batch)] if np.ndim(found.watts) else found.watts
            clocks[at], levels[:, at] = self.analytic.clock_ghz(device), self.analytic.caches(device)[:, None]
            joules_a_byte[at] = found.joules_a_byte
            which[:, at] = batch.by_model(partial(self._find, device), np.int32)
            if corrected and self.correction.learned:
                factors[:, at] = np.log(batch.by_model(partial(self.correction.factor, device)))
        logs = out[:3]  # ln of factors to the analytic price: expected, low, high
        known = which >= 0
        if self._bank is not None and known.any():
            threads, share, load = state
            x = matrix(batch, threads, clocks, load, share, levels).reshape(which.size, -1)
            numbers = which.reshape(-1)
            value, outside = self._bank.evaluate(x, np.maximum(numbers, 0))
            outside += 1.0
            flat = logs.reshape(3, -1)
            flat[0] = value
            np.add(value, outside * self._low[numbers], out=flat[1])
            np.add(value, outside * self._high[numbers], out=flat[2])
            by_rows = self._by_rows[which]
            if by_rows.any():
                seconds = np.where(known & by_rows, units(batch, share), seconds)
        if not known.all():
            logs[:, ~known] = np.array([0.0, -_UNKNOWN, _UNKNOWN])[:, None]
        logs += factors
        np.exp(logs, out=logs)
        logs *= seconds
        out[3] *= out[0]
        return out, moved, fusion, joules_a_byte

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
