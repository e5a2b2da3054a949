"""Analytic prices are those of the board's formula (jetson/costs.py), for many sub-tasks and variants at once."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from finequery.errors import NotSupportedError
from finequery.jetson import board as boards
from finequery.jetson import costs
from finequery.jetson.board import Board
from finequery.jetson.costs import Work
from finequery.jetson.simulator import Machine
from finequery.perfmodel.analytic import Analytic
from finequery.perfmodel.batch import Batch, matrix, units
from finequery.perfmodel.features import CACHES, Features, vector
from finequery.perfmodel.work import works

MODELS = (
    *("filter", "project", "probe:hash", "probe:map", "build:hash", "build:rank", "aggregate:runs", "aggregate:hash"),
    *("sort:radix sort", "window:sort", "limit", "materialize", "scan", "no such kind"),
)


def some_features(count: int = 60, seed: int = 1) -> list[Features]:
    """Sub-tasks of all kinds and sizes, some without rows."""
    draw = random.Random(seed)
    found = []
    for i in range(count):
        kind, _, algorithm = MODELS[i % len(MODELS)].partition(":")
        rows = draw.choice((0.0, 1.0, 5000.0, 2.0 ** draw.uniform(8, 26)))
        found.append(
            Features(
                kind,
                algorithm,
                rows,
                rows * draw.random(),
                draw.choice((0, 1, 4, 12.0)),
                draw.choice((0, 4, 16.0)),
                draw.choice((0, 4, 64.0)),
                draw.choice((0, 1000, 1e6, 3e7, 1e9)),
                draw.random(),
                draw.random() * 2,
                draw.choice((0, 10, 1e6)),
                draw.choice((0, 5, 1e5)),
                draw.random(),
                draw.random(),
                draw.randint(0, 9),
                draw.randint(0, 5),
                draw.random(),
                draw.random(),
                draw.random(),
            )
        )
    return found


def on_device(features: Features, board: Board) -> Work:
    """The work of a sub-task whose columns are where the GPU streams best from and whose table is in its own memory."""
    work = works(features, "device" if board.discrete else "mapped")
    touches = tuple(replace(t, memory="device") if t.random else t for t in work.touches)
    return replace(work, touches=touches)


@pytest.mark.parametrize("name", [n for n in boards.names() if n != "host"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_is_the_simulator_without_noise(name: str, device: str) -> None:
    board = boards.load(name)
    features, variants = some_features(), [(1, 1.0), (3, 1.0), (board.cpu.cores, 0.3), (64, 0.01)]
    analytic, table = Analytic(board), costs.load()
    threads, share = (np.array(v, float) for v in zip(*variants))
    found = analytic.price(Batch(features), device, threads, share)
    for i, f in enumerate(features):
        work = on_device(f, board)
        for j, (n, part) in enumerate(variants):
            if device == "cpu":
                cpu = costs.cpu_cost(board, [work], table, part)
                expected, nbytes = cpu.seconds(min(n, board.cpu.cores)) + cpu.fixed, cpu.traffic
            else:
                gpu = costs.gpu_cost(board, [work], table, part)
                expected, nbytes = gpu.seconds + gpu.once, sum(gpu.traffic)
            assert found.seconds[i, j] == pytest.approx(expected, rel=1e-9, abs=1e-15), (f, n, part)
            assert found.nbytes[i, j] == pytest.approx(nbytes, rel=1e-9), (f, n, part)
            if part == 1.0:
                solo = Machine(board).solo([work], device, n)
                fixed = analytic.batch_seconds(device)
                assert expected + fixed == pytest.approx(solo.seconds, rel=1e-6, abs=2e-12)
                joules = float(found.joules[i, j])
                rest = board.power.idle_w * solo.seconds + (board.power.gpu_w * fixed if device == "gpu" else 0.0)
                assert joules + rest == pytest.approx(solo.joules, rel=1e-6, abs=1e-9)


def test_load_leaves_less_of_a_device() -> None:
    analytic, batch = Analytic(boards.load("agx-xavier")), Batch(some_features())
    for device in ("cpu", "gpu"):
        free = analytic.price(batch, device, 8.0).seconds
        busy = analytic.price(batch, device, 8.0, load=0.75).seconds
        assert (busy >= free).all() and (busy > 1.5 * free).any()


def test_no_such_device() -> None:
    with pytest.raises(NotSupportedError, match="no device"):
        Analytic(boards.load("host")).price(Batch(some_features(3)), "gpu", 1)
    with pytest.raises(NotSupportedError, match="npu"):
        Analytic(boards.load("h100")).price(Batch(some_features(3)), "npu", 1)


def test_rows_of_a_batch_are_those_of_single_features() -> None:
    features = some_features(80, seed=7)
    together = matrix(Batch(features), np.array([1.0, 4.0]), 2.5, np.array([0.0, 0.5]), levels=CACHES)
    assert together[..., -1].min() == together[..., -1].max() == 1.0
    for i, f in enumerate(features):
        for j, (threads, load) in enumerate([(1, 0.0), (4, 0.5)]):
            np.testing.assert_allclose(together[i, j, :-1], vector(f, threads, 2.5, load), rtol=1e-5, atol=1e-5)


def test_units() -> None:
    batch = Batch([Features("filter", rows=1000.0), Features("sort", rows=1024.0), Features("sort", rows=0.0)])
    assert units(batch)[:, 0].tolist() == [1000.0, 10240.0, 1.0]
