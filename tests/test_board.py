"""Boards: every number has a source, modes cap what they say, damaged files are refused with what is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from finequery.errors import OperationalError
from finequery.jetson import board, costs

ALL = [name if mode is None else f"{name}:{mode}" for name in board.names() for mode in [None, *board.modes(name)]]


@pytest.mark.parametrize("name", [*ALL, board.REFERENCE])
def test_every_number_has_a_source(name: str) -> None:
    loaded = board.load(name)
    values = dict(board._values(loaded))
    assert set(loaded.sources) == set(values)
    for path, source in loaded.sources.items():
        assert len(source) > 5 and "@" not in source, path
        if source.startswith("estimate"):
            assert source.startswith("estimate: ") and len(source) > len("estimate: "), path
    assert loaded.estimates().keys() < values.keys()


def test_every_cost_has_a_source() -> None:
    table = costs.load()
    expected = {f"cpu.{key}" for key in table.cpu} | {f"gpu.{key}" for key in table.gpu}
    assert set(table.sources) == expected | {"model.cpu_overlap", "model.gpu_overlap"}
    assert set(table.gpu) <= set(table.cpu), "a kind that the GPU can do, the CPU can do"


def test_published_figures() -> None:
    """Of jetson-cuda's profile table; the first mode of a board is its fastest."""
    xavier = board.load("agx-xavier")
    assert (xavier.cpu.cores, xavier.gpu.sms if xavier.gpu else 0) == (8, 8)
    assert xavier.cpu.all_gbs == 71.983 and xavier.memory.peak_gbs == 136.5
    assert xavier == board.load(" AGX-Xavier:maxn ")
    assert not xavier.discrete and xavier.peak_gbs == 136.5
    h100 = board.load("h100")
    assert h100.discrete and h100.link is not None and (h100.link.h2d_gbs, h100.link.d2h_gbs) == (56.2, 56.8)
    assert h100.peak_gbs == 2307.2


@pytest.mark.parametrize(
    ("mode", "cores", "cpu_mhz", "gpu_mhz", "gbs"),
    [
        ("10W", 2, 1200, 520, 68.2),
        ("15W", 4, 1200, 670, 85.2),
        ("30W_ALL", 8, 1200, 900, 102.4),
        ("30W_6CORE", 6, 1450, 900, 102.4),
        ("30W_4CORE", 4, 1780, 900, 102.4),
        ("30W_2CORE", 2, 2100, 900, 102.4),
        ("15W_DESKTOP", 4, 2188.8, 670, 85.2),
    ],
)
def test_power_modes_of_xavier(mode: str, cores: int, cpu_mhz: float, gpu_mhz: float, gbs: float) -> None:
    full, capped = board.load("agx-xavier"), board.load(f"agx-xavier:{mode}")
    assert full.gpu is not None and capped.gpu is not None
    assert (capped.cpu.cores, capped.cpu.mhz, capped.gpu.mhz, capped.memory.peak_gbs) == (cores, cpu_mhz, gpu_mhz, gbs)
    assert capped.cpu.speed == pytest.approx(full.cpu.speed * cpu_mhz / full.cpu.mhz)
    for rate in ("cached_random", "atomics"):
        assert getattr(capped.gpu, rate) == pytest.approx(getattr(full.gpu, rate) * gpu_mhz / full.gpu.mhz)
    assert capped.gpu.device_random == pytest.approx(full.gpu.device_random * gbs / full.memory.peak_gbs)
    assert capped.gpu.launch_us == pytest.approx(full.gpu.launch_us * full.cpu.mhz / cpu_mhz)
    assert capped.gpu.device_gbs <= capped.memory.shared_gbs < full.memory.shared_gbs
    assert capped.power.core_w < full.power.core_w and capped.power.gpu_w < full.power.gpu_w
    assert capped.sources["cpu.speed"].startswith("estimate: 0.42 at full clocks")
    assert capped.cpu.l2_bytes == full.cpu.l2_bytes and capped.cpu.memory_ns == full.cpu.memory_ns


@pytest.mark.parametrize("name", [name for name in ALL if ":" in name])
def test_a_mode_stays_within_its_budget(name: str) -> None:
    """All at work at once draw no more than a quarter above what the mode is rated at."""
    mode = board.load(name)
    drawn = mode.power.idle_w + mode.cpu.cores * mode.power.core_w + mode.power.gpu_w
    drawn += mode.memory.shared_gbs * mode.memory.joules_per_gb
    assert drawn <= 1.25 * mode.power.tdp_w


def test_this_machine() -> None:
    here = board.load("host")
    assert here.gpu is None and here.link is None and not here.discrete
    assert 1 <= here.cpu.cores <= (os.cpu_count() or 1)
    assert here.cpu.all_gbs <= here.memory.shared_gbs
    assert board.load("HOST") is here


def test_caches_of_sysfs(tmp_path: Path) -> None:
    """Per core below level 3; instruction caches and what can't be read do not count."""
    for i, (level, kind, size, sharers) in enumerate(
        [
            (1, "Data", "64K", "0"),
            (1, "Instruction", "128K", "0"),
            (2, "Unified", "2048K", "0-1"),
            (3, "Unified", "4M", "0-3,8"),
        ]
    ):
        (tmp_path / f"index{i}").mkdir()
        for key, text in {"level": level, "type": kind, "size": size, "shared_cpu_list": sharers}.items():
            (tmp_path / f"index{i}" / key).write_text(f"{text}\n")
    (tmp_path / "index9").mkdir()
    assert board._caches(tmp_path) == {1: 65536, 2: 1 << 20, 3: 4 << 20}
    assert board._caches(tmp_path / "none") == {}


def test_unknown_names() -> None:
    with pytest.raises(OperationalError, match='There is no board "agx-xaver"\nDid you mean "agx-xavier"') as e:
        board.load("agx-xaver")
    assert "Boards: agx-orin, agx-xavier" in str(e.value)
    with pytest.raises(OperationalError, match=r'no power mode "16W"\nDid you mean "15W".*Modes: MAXN, 10W'):
        board.load("agx-xavier:16W")
    with pytest.raises(OperationalError, match='Board "h100" has no power mode "15W"\nIt has one'):
        board.load("h100:15W")
    with pytest.raises(OperationalError, match="no power mode"):
        board.load("host:15W")
    for name in ("", "costs", "../pyproject"):
        with pytest.raises(OperationalError, match="There is no board"):
            board.load(name)


def numbers() -> dict[str, Any]:
    return dict(board._numbers(board._document("h100"), "h100"))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cpu.cores", None, "missing cpu.cores"),
        ("cpu.core", 8, 'unknown entry "cpu.core"\nDid you mean "cores"'),
        ("cqu.cores", 8, 'unknown entry "cqu.cores"\nDid you mean "cpu"'),
        ("cpu.mhz", 0, "cpu.mhz is 0"),
        ("memory.peak_gbs", float("nan"), "memory.peak_gbs is nan"),
        ("power.idle_w", -1, "power.idle_w is -1"),
        ("cpu.all_gbs", 300, r"cpu.all_gbs \(300\) is above memory.shared_gbs \(255\)"),
        ("gpu.device_gbs", 1900, r"gpu.device_gbs \(1900\) is above gpu_memory.shared_gbs \(1840\)"),
        ("gpu.mapped_gbs", 60, r"gpu.mapped_gbs \(60\) is above link.h2d_gbs"),
        ("cpu.l2_ns", 200, r"cpu.l2_ns \(200\) is above cpu.l3_ns"),
        ("gpu_memory.shared_gbs", 3000, r"shared_gbs \(3000\) is above gpu_memory.peak_gbs \(2000\)"),
        ("memory.shared_gbs", 400, "is above memory.peak_gbs"),
    ],
)
def test_impossible_numbers(path: str, value: float | None, message: str) -> None:
    changed = numbers()
    if value is None:
        del changed[path]
    else:
        changed[path] = (value, "test")
    with pytest.raises(OperationalError, match=f'Board file "x" is damaged: .*{message}'):
        board.parse("x", "x", "", changed)


@pytest.mark.parametrize("part", ["cpu", "memory", "power", "price", "gpu", "link"])
def test_missing_parts(part: str) -> None:
    with pytest.raises(OperationalError, match="damaged: "):
        board.parse("x", "x", "", {k: v for k, v in numbers().items() if not k.startswith(part + ".")})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu = 3", '"cpu" is no table'),
        ("[cpu]\ncores = 8", r'cpu.cores must be \{ value = …, source = "…" \}'),
        ("[cpu]\ncores = { value = 8 }", "cpu.cores must be"),
        ('[cpu]\ncores = { value = "8", source = "test" }', "the value is no number"),
        ('[cpu]\ncores = { value = true, source = "test" }', "the value is no number"),
        ('[cpu]\ncores = { value = 8, source = " " }', "cpu.cores has no source"),
        (
            '[sources]\nbrief = "a"\n[cpu]\ncores = { value = 8, source = "@brif" }',
            'no source "brif"\nDid you mean "brief"',
        ),
        ("[cpu", "damaged: "),
        ("", "missing cpu.cores"),
    ],
)
def test_damaged_files(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.toml").write_text(text)
    monkeypatch.setattr(board, "FOLDER", tmp_path)
    with pytest.raises(OperationalError, match=message) as e:
        board.load("broken")
    assert "broken" in str(e.value)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match=r"Board file gone.toml can't be read: No such file"):
        board.read_toml(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["cpu"].pop("default"), "cpu has no default"),
        (lambda d: d["cpu"]["filter"].pop("row"), "cpu.filter must have row, step"),
        (lambda d: d["cpu"]["filter"].update(rows=1), "cpu.filter must have"),
        (lambda d: d["cpu"]["filter"].update(row="1"), "cpu.filter.row must be a number"),
        (lambda d: d["cpu"]["filter"].update(row=-1), "cpu.filter.row must be a number from 0 on"),
        (lambda d: d["cpu"]["filter"].update(vector=1.5), "cpu.filter: vector and serial are shares"),
        (lambda d: d["gpu"]["filter"].update(source=""), "gpu.filter has no source"),
        (lambda d: d["model"].pop("gpu_overlap"), "model.gpu_overlap is missing"),
        (lambda d: d["model"]["cpu_overlap"].update(value=2), "model.cpu_overlap is a share above 0"),
    ],
)
def test_damaged_cost_tables(change: Any, message: str) -> None:
    document = board.read_toml(board.FOLDER / "costs.toml")
    change(document)
    with pytest.raises(OperationalError, match="costs.toml is damaged: " + message):
        costs.parse(document)
