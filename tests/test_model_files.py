"""Model files: what is written is read again; what is damaged or of another version is refused, or passed over."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_analytic import on_device

from finequery.errors import FileError
from finequery.jetson import board as boards
from finequery.jetson.simulator import Machine
from finequery.operators import native
from finequery.perfmodel import store
from finequery.perfmodel.batch import Batch
from finequery.perfmodel.features import NAMES, Features
from finequery.perfmodel.model import Model, Variant, load_model
from finequery.perfmodel.store import Errors, Fitted, Stored
from finequery.perfmodel.trees import Regressor

BOARD = "agx-xavier"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders for the user's models and for those of the package."""
    native.load()  # before its folder changes
    monkeypatch.setenv("FINEQUERY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    return tmp_path


def fitted(model: str, device: str = "cpu", trees: int = 2, value: float = 0.5) -> Fitted:
    rng = np.random.default_rng(len(model))
    regressor = Regressor(
        np.full(len(NAMES), -1e6, np.float32), np.full(len(NAMES), 1e6, np.float32), value,
        np.array([0, 1], np.uint16), np.array([2, len(NAMES)], np.uint16), np.array([1e-3, 2e-3]),
        rng.integers(0, len(NAMES), (trees, 3)).astype(np.uint16), rng.normal(size=(trees, 3)).astype(np.float32),
        rng.normal(size=(trees, 4)).astype(np.float32) / 10,
    )  # fmt: skip
    return Fitted(model, device, "boosting 3", "analytic", regressor, -0.1, 0.2, 40, 30,
                  {"boosting 3, analytic": Errors(0.05, 0.06, 0.1, 0.055)})  # fmt: skip


def some_models(board: str = BOARD) -> Stored:
    return store.stored(board, True, 0.9, [fitted("filter"), fitted("probe:hash", trees=0), fitted("filter", "gpu", 5)])


def same(a: Regressor, b: Regressor) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in Regressor.__slots__)


def test_round_trip(tmp_path: Path) -> None:
    path, models = tmp_path / "folder" / "m.npz", some_models()
    store.save(path, models)
    again = store.load(path)
    assert [p.name for p in path.parent.iterdir()] == ["m.npz"]
    assert again.digest and replace(again, digest="", models=()) == replace(models, models=())
    assert again.samples == 120 and set(again.versions) >= {"python", "numpy"} and again.created[:2] == "20"
    for a, b in zip(models.models, again.models):
        assert same(a.regressor, b.regressor)
        assert replace(a, regressor=None) == replace(b, regressor=None)  # type: ignore[arg-type]
    store.save(path, replace(models, models=()))
    assert store.load(path).models == ()


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.load(tmp_path / "none.npz")


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 0.5, 0.9, 0.999])
def test_cut_off(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "m.npz"
    store.save(path, some_models())
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    with pytest.raises(FileError, match=r"m\.npz is damaged") as caught:
        store.load(path)
    assert "finequery calibrate" in str(caught.value) and "delete the file" in str(caught.value)


def test_flipped_bits(tmp_path: Path) -> None:
    """Wherever a byte is changed: refused, or (in what an archive does not check) read as it was written."""
    path, models = tmp_path / "m.npz", some_models()
    store.save(path, models)
    data = path.read_bytes()
    refused = 0
    for at in range(0, len(data), max(1, len(data) // 150)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            again = store.load(path)
        except FileError:
            refused += 1
        else:
            assert all(same(a.regressor, b.regressor) for a, b in zip(models.models, again.models))
    assert refused > 75


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    meta = json.loads(arrays["meta"].tobytes())
    change(meta, arrays)
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(path, **arrays)


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "version": (lambda m, a: m.update(version=99), "has version 99, and this FineQuery reads version 1"),
    "schema": (lambda m, a: m.update(schema="something"), "is no performance model"),
    "features": (lambda m, a: m.update(names=[*m["names"][1:], "colour"]), "other features .*colour"),
    "order": (lambda m, a: m.update(names=m["names"][::-1]), "in another order"),
    "no models": (lambda m, a: m.pop("models"), "damaged"),
    "fewer models": (lambda m, a: m["models"].pop(), "damaged"),
    "field": (lambda m, a: m["models"][0].pop("family"), "damaged"),
    "interval": (lambda m, a: m["models"][0].update(low=0.5), "interval"),
    "base": (lambda m, a: m["models"][0].update(base="magic"), "base"),
    "no array": (lambda m, a: a.pop("leaf"), "damaged"),
    "short": (lambda m, a: a.update(leaf=a["leaf"][:-1]), 'array "leaf"'),
    "kind of numbers": (lambda m, a: a.update(weight=a["weight"].astype(np.float32)), 'array "weight"'),
    "sizes": (lambda m, a: a["sizes"].__setitem__((0, 2), 3), "damaged"),
    "negative": (lambda m, a: a["sizes"].__setitem__((0, 0), -1), "damaged"),
    "node outside": (lambda m, a: a["feature"].__setitem__(0, 60_000), "unknown feature"),
    "term outside": (lambda m, a: a["left"].__setitem__(0, 60_000), "unknown feature"),
    "not a number": (lambda m, a: a["leaf"].__setitem__(0, np.nan), "not finite"),
    "infinite": (lambda m, a: a["bias"].__setitem__(0, np.inf), "not finite"),
    "range": (lambda m, a: a["low"].__setitem__((0, 0), 2e6), "not in order"),
    "objects": (lambda m, a: a.update(leaf=np.array([{}], object)), "damaged"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_contents(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.npz"
    store.save(path, some_models())
    change, message = CHANGES[name]
    rewrite(path, change)
    with pytest.raises(FileError, match=message):
        store.load(path)


def test_order_of_choice(folders: Path) -> None:
    """The user's calibration, then what came with the package, then analytic prices; and which it was is said."""
    board = boards.load(BOARD)
    features = [Features("filter", rows=1e6, bytes_in=4.0, columns=1), Features("window", rows=1e5)]

    analytic = load_model(board)
    assert "analytic" in analytic.source and "no fitted model" in analytic.source and analytic.simulated
    alone = analytic.price(features, "cpu", threads=4)
    assert alone[0].high == pytest.approx(2 * alone[0].seconds) and alone[0].low == pytest.approx(alone[0].seconds / 2)

    store.save(store.shipped_path(BOARD), some_models())
    shipped = load_model(board)
    assert shipped.source.startswith("model shipped for agx-xavier of 20") and "simulated" in shipped.source
    priced = shipped.price(features, "cpu", threads=4)
    assert priced[0].seconds != alone[0].seconds and priced[1] == alone[1]  # no model of windows: analytic
    assert priced[0].high / priced[0].seconds == pytest.approx(np.exp(0.2))
    assert priced[0].low / priced[0].seconds == pytest.approx(np.exp(-0.1))

    user = store.user_path(BOARD)
    store.save(user, replace(some_models(), models=(fitted("filter", value=2.0),)))
    own = load_model(board)
    assert own.source.startswith("model calibrated for agx-xavier")
    assert own.price(features, "cpu", threads=4)[0].seconds > 2 * priced[0].seconds

    user.write_bytes(b"junk")
    with pytest.warns(UserWarning, match="is damaged"):
        fallen = load_model(board)
    assert fallen.source.startswith("model shipped") and "refused" in fallen.source and str(user) in fallen.source
    with pytest.raises(FileError, match="is damaged"):
        load_model(board, strict=True)
    assert load_model(None).simulated is False


def test_a_power_mode_takes_the_factors_of_the_default_mode(folders: Path) -> None:
    by_rows = replace(fitted("probe:hash"), base="rows")
    store.save(store.shipped_path(BOARD), replace(some_models(), models=(fitted("filter"), by_rows)))
    full, slow = load_model(boards.load(BOARD)), load_model(boards.load(f"{BOARD}:15W"))
    assert "agx-xavier:15W by factors of the" in slow.source and slow.fitted is not None
    assert [m.model for m in slow.fitted.models] == ["filter"]  # what was learned over rows holds at one clock only
    f = Features("filter", rows=1e6, bytes_in=4.0, columns=1)
    ratios = [
        m.price([f], "cpu", threads=4)[0].seconds / m.analytic.price(Batch([f]), "cpu", 4).seconds[0, 0]
        for m in (full, slow)
    ]
    assert ratios[1] == pytest.approx(ratios[0], rel=0.15) and ratios[0] > 1.2
    store.save(store.user_path(f"{BOARD}:15W"), some_models(f"{BOARD}:15W"))
    assert load_model(boards.load(f"{BOARD}:15W")).source.startswith("model calibrated for agx-xavier:15W of")


def test_shares_threads_and_devices(folders: Path) -> None:
    """One call gives what single calls give, in the order asked for."""
    store.save(store.shipped_path(BOARD), some_models())
    model = load_model(boards.load(BOARD))
    pipelines = [
        [Features("scan", rows=1e6), Features("probe", "hash", 1e6, 5e5, 4.0, 0.0, 16.0, 3e7)],
        [Features("filter", rows=3e5, bytes_in=2.0), Features("probe", "map", 1e4), Features("filter", rows=2e6)],
    ]
    variants = [Variant("gpu"), Variant("cpu", 8), Variant("gpu", share=0.5, load=0.5), Variant("cpu", 2, 0.1)]
    prices = model.price_all(pipelines, variants)
    assert prices.seconds.shape == (4, 5) and prices.starts == (0, 2)
    whole = prices.pipelines()
    for i, v in enumerate(variants):
        for j, pipeline in enumerate(pipelines):
            single = model.price(pipeline, v.device, threads=v.threads, share=v.share, load={v.device: v.load})
            alone = [
                model.price([f], v.device, threads=v.threads, share=v.share, load={v.device: v.load})[0]
                for f in pipeline
            ]
            fusion = single[0].seconds / alone[0].seconds
            assert 0.5 < fusion <= 1.0 + 1e-9
            for k, price in enumerate(single):
                found = prices.price(i, prices.starts[j] + k)
                assert found.seconds == pytest.approx(price.seconds) and found.joules == pytest.approx(price.joules)
                assert found.low <= found.seconds <= found.high and found.nbytes == pytest.approx(price.nbytes)
            assert whole.price(i, j).seconds == pytest.approx(sum(p.seconds for p in single))
            assert whole.price(i, j).seconds == pytest.approx(fusion * sum(p.seconds for p in alone))
            assert whole.price(i, j).high == pytest.approx(sum(p.high for p in single))
            assert whole.price(i, j).nbytes == pytest.approx(sum(p.nbytes for p in single))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("name", [n for n in boards.names() if n != "host"])
def test_analytic_pipelines_are_fused_as_the_simulator_runs_them(folders: Path, name: str, device: str) -> None:
    board = boards.load(name)
    model = load_model(board)
    pipelines = [
        [Features("scan", rows=6e6), Features("filter", "", 6e6, 3e6, 6.0, selectivity=0.5, columns=2, steps=2),
         Features("probe", "hash", 3e6, 1e6, 4.0, 0.0, 16.0, 3e7, columns=1), Features("aggregate", "dense", 1e6,
         random_width=16.0, table_bytes=1e4, groups=100, steps=2)],
        [Features("filter", "", 5e4, 1e4, 2.0, 4.0, columns=1)],
    ]  # fmt: skip
    prices = model.price_all(pipelines, [Variant(device, 4)]).pipelines()
    for i, pipeline in enumerate(pipelines):
        parts = tuple(on_device(f, board) for f in pipeline)
        solo = Machine(board).solo(parts, device, 4)
        price = prices.price(0, i)
        assert price.seconds + model.analytic.batch_seconds(device) == pytest.approx(solo.seconds, rel=1e-6)
        assert price.nbytes == pytest.approx(solo.memory_bytes)
        launching = board.power.gpu_w * model.analytic.batch_seconds(device)
        joules = price.joules + launching + board.power.idle_w * solo.seconds
        assert joules == pytest.approx(solo.joules, rel=0.02)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("name", ["agx-xavier", "rtx-3090"])
def test_columns_that_fit_a_cache_only_one_by_one_come_from_memory(folders: Path, name: str, device: str) -> None:
    """Two columns of 0.6 times the cache each: alone out of it, together not; and in a model whose prices add up."""
    board = boards.load(name)
    cache = board.cpu.l3_bytes if device == "cpu" else board.gpu.l2_bytes
    mapped = device == "gpu" and not board.discrete  # never cached
    one = Features("filter", "ranges", 0.15 * cache, 0.15 * cache, 4.0, columns=1)
    two = Features("aggregate", "scalar", 0.15 * cache, 1.0, 4.0, columns=1)
    store.save(store.user_path(name), replace(some_models(name), simulated=False))
    for model in (Model(board), load_model(board)):
        alone, together = (model.price_all(p, [Variant(device, 4)]) for p in ([[one], [two]], [[one, two]]))
        assert alone.nbytes.tolist() == pytest.approx(np.full((1, 2), 0.6 * cache * mapped))
        assert together.nbytes.tolist() == pytest.approx(np.full((1, 2), 0.6 * cache))
        solo = Machine(board).solo([on_device(f, board) for f in (one, two)], device, 4)
        assert together.pipelines().price(0, 0).nbytes == pytest.approx(solo.memory_bytes)
    pipeline = Model(board).price_all([[one, two]], [Variant(device, 4)]).pipelines().price(0, 0)
    fixed = Model(board).analytic.batch_seconds(device)
    assert pipeline.seconds + fixed == pytest.approx(solo.seconds)


def test_measured_shares_of_a_pipeline_add_up(folders: Path) -> None:
    store.save(store.shipped_path("host"), replace(some_models("host"), simulated=False))
    prices = load_model().price_all([[Features("filter", rows=1e6), Features("probe", "hash", 1e6)]], [Variant("cpu")])
    assert prices.pipelines().price(0, 0).seconds == pytest.approx(prices.seconds.sum())


def test_correction_is_part_of_the_price(folders: Path) -> None:
    model, f = load_model(boards.load(BOARD)), Features("filter", rows=1e7, bytes_in=4.0, columns=1)
    before = model.price([f], "cpu", threads=8)[0].seconds
    for _ in range(100):
        model.observe([([f], Variant("cpu", 8), 2 * before), ([], Variant("cpu", 8), 1.0)])
    assert model.price([f], "cpu", threads=8)[0].seconds == pytest.approx(2 * before, rel=0.1)
    assert model.price([f], "gpu")[0].seconds == load_model(boards.load(BOARD)).price([f], "gpu")[0].seconds
    model.correction.save()
    assert load_model(boards.load(BOARD)).price([f], "cpu", threads=8)[0].seconds == pytest.approx(2 * before, rel=0.1)
    simulated = load_model(boards.load(BOARD), corrected=False)  # which runs on the real board say nothing about
    assert simulated.price([f], "cpu", threads=8)[0].seconds == before and simulated.correction.path is None


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from finequery.perfmodel.model import load_model, Variant; "
        "from finequery.perfmodel.features import Features; "
        "load_model().price_all([[Features('filter', rows=1e6)]], [Variant('cpu')]); "
        "print([m for m in ('sklearn', 'numba', 'pandas', 'pyarrow', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_come_with_the_package() -> None:
    """Every board and a class of CPU have one that can be read, and they are small (scripts/build_models.py)."""
    files = sorted(store.SHIPPED.glob("*.npz"))
    names = [name for name in boards.names() if name != "host"]
    assert {store.shipped_path(name) for name in names} <= set(files)
    assert any(path.stem.startswith("cpu-") for path in files)
    assert sum(path.stat().st_size for path in files) < 1_500_000
    for path in files:
        models = store.load(path)
        assert path.stat().st_size < 200_000 and models.coverage == 0.9
        assert models.simulated is not path.stem.startswith("cpu-")
        devices = {m.device for m in models.models}
        assert devices == ({"cpu", "gpu"} if models.simulated else {"cpu"})
        assert {"filter", "aggregate", "probe", "build"} <= {m.model.partition(":")[0] for m in models.models}
        if models.simulated:
            assert models.board == path.stem
            assert np.median([m.chosen.median for m in models.models]) < 0.1
