"""From what was measured or simulated to the models of a machine."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from finequery.errors import NotSupportedError
from finequery.jetson import board as boards
from finequery.jetson.board import Board
from finequery.jetson.simulator import Machine
from finequery.perfmodel import store
from finequery.perfmodel.analytic import Analytic
from finequery.perfmodel.dataset import Sample
from finequery.perfmodel.features import Features
from finequery.perfmodel.work import works

#: Sub-tasks of a model that a board is asked for: its formula has few parameters.
SUBTASKS = 90
#: Spread of a simulated time: that of repeated runs on a machine that is otherwise idle.
NOISE = 0.03


def check() -> None:
    """NotSupportedError where models can't be fitted."""
    if importlib.util.find_spec("sklearn") is None:
        raise NotSupportedError(
            "Fitting a performance model needs scikit-learn", hint="Install it with: pip install 'finequery[train]'"
        )


def train(board: Board | None, samples: Sequence[Sample], progress: Callable[[str], None] = print) -> store.Stored:
    """The models of a machine from its samples. NotSupportedError where scikit-learn is missing, or where the samples
    are too few for any model."""
    check()
    from finequery.perfmodel import fit

    models = fit.fit(samples, Analytic(board), progress=progress)
    if not models:
        raise NotSupportedError(
            f"{len(samples)} samples are too few for a performance model",
            hint=f"A kind of sub-task needs {fit.FEWEST} points: calibrate for longer.",
        )
    name = "host" if board is None else board.name
    return store.stored(name, any(s.simulated for s in samples), fit.COVERAGE, models)


def simulated_samples(board: Board, features: Iterable[Features], seed: int = 0) -> list[Sample]:
    """What a simulated board takes for sub-tasks alone: on its GPU, and on one, half and all of its cores. A batch's
    launch and synchronisation are not in it (``Analytic.batch_seconds``)."""
    machine, analytic, noise = Machine(board), Analytic(board), random.Random(seed)
    threads = sorted({1, max(1, board.cpu.cores // 2), board.cpu.cores})
    ways = [("cpu", n) for n in threads] + ([("gpu", 1)] if board.gpu is not None else [])
    count: dict[str, int] = {}
    samples = []
    for f in dict.fromkeys(features):
        count[f.model] = count.get(f.model, 0) + 1
        if count[f.model] > SUBTASKS:
            continue
        work = works(f, "device" if board.discrete else "mapped")
        on_gpu = replace(work, touches=tuple(replace(t, memory="device") if t.random else t for t in work.touches))
        for device, n in ways:
            took = machine.solo([on_gpu if device == "gpu" else work], device, n).seconds
            # as events on a stream would measure it: noise is on the kernel's time, not on what was taken off
            took = (took - analytic.batch_seconds(device)) * noise.lognormvariate(0.0, NOISE)
            samples.append(Sample(f, device, n, analytic.clock_ghz(device), 0.0, max(took, 0.0), simulated=True))
    return samples


def simulated_boards() -> list[Board]:
    """Every board, in its first power mode."""
    return [boards.load(name) for name in boards.names() if name != "host"]
