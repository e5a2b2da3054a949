"""Where settings come from: files, the environment, ``connect``, SET; and what is logged."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import finequery
from finequery import configuration, logs
from finequery.errors import CatalogError, DataError, FileError
from finequery.settings import TABLE, Settings


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FINEQUERY_CONFIG", raising=False)
    for name in TABLE:
        monkeypatch.delenv(configuration.PREFIX + name.upper(), raising=False)
    yield
    logs.set_level("default")


def source(settings: Settings, name: str) -> tuple[str, str]:
    """Value and source of a setting, as SHOW SETTINGS has them."""
    return next((value, where) for n, value, _, where, _ in settings.rows() if n == name)


def test_later_sources_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source(Settings(), "objective") == ("latency", "default")
    (tmp_path / "config" / "finequery").mkdir(parents=True)
    own = tmp_path / "config" / "finequery" / "config.toml"
    own.write_text('threads = 3\nobjective = "energy"\nstrict = true\n')
    assert source(Settings(), "objective") == ("energy", str(own))
    assert Settings()["strict"] is True
    (tmp_path / "finequery.toml").write_text('objective = "edp"\ntimeout = 2.5')
    assert source(Settings(), "objective") == ("edp", "finequery.toml")
    assert source(Settings(), "threads") == ("3", str(own))
    monkeypatch.setenv("FINEQUERY_OBJECTIVE", "Latency")
    monkeypatch.setenv("FINEQUERY_STRICT", "off")
    assert source(Settings(), "objective") == ("latency", "FINEQUERY_OBJECTIVE")
    assert Settings()["strict"] is False
    with finequery.connect(objective="energy") as con:
        found = {row[0]: (row[1], row[3]) for row in con.sql("show settings").fetchall()}
        assert found["objective"] == ("energy", "connect") and found["timeout"] == ("2.5", "finequery.toml")
        con.execute("set objective = 'edp'")
        assert source(con._session.settings, "objective") == ("edp", "SET")
        assert source(con.cursor()._session.settings, "objective") == ("edp", "SET")
        con.execute("reset objective")
        assert source(con._session.settings, "objective") == ("latency", "FINEQUERY_OBJECTIVE")
        con.execute("reset progress")
        assert source(con._session.settings, "progress") == ("auto", "default")


def test_one_file_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "finequery.toml").write_text("threads = 3")
    (tmp_path / "other.toml").write_text("strict = true")
    monkeypatch.setenv("FINEQUERY_CONFIG", str(tmp_path / "other.toml"))
    assert Settings()["strict"] is True and source(Settings(), "threads")[1] == "default"
    monkeypatch.setenv("FINEQUERY_CONFIG", "")
    assert configuration.paths() == []
    monkeypatch.setenv("FINEQUERY_CONFIG", "none.toml")
    with pytest.raises(FileError, match=r"no configuration file 'none\.toml'"):
        finequery.connect()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("# a comment\nthreads = 2\ntreads = 3\n", CatalogError, 'line 3: there is no setting "treads"\n.*"threads"'),
        ("\n[threads]\na = 1\n", CatalogError, "line 2: the value of threads"),
        ("\nthreads = 0\n", DataError, "'finequery.toml', line 2: Setting threads must be"),
        ("threads = \n", FileError, "is not TOML: .*line 1"),
        ("[section]\nthreads = 2\n", CatalogError, 'line 1: there is no setting "section"'),
    ],
)
def test_errors_name_file_and_line(text: str, error: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "finequery.toml").write_text(text)
    with pytest.raises(error, match=message):
        Settings()


def test_errors_name_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEQUERY_THREADS", "many")
    with pytest.raises(DataError, match=r"^FINEQUERY_THREADS: Setting threads must be"):
        Settings()


def test_every_setting_has_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"memory_limit": "1GB", "gpu_memory_limit": "1GB", "board": "agx-xavier", "device": "cpu"}
    for name in TABLE:
        value = values.get(name) or str(Settings()[name]).lower().replace("none", "0")
        monkeypatch.setenv(configuration.PREFIX + name.upper(), value)
    monkeypatch.setenv("FINEQUERY_LOG_LEVEL", "off")
    assert {where for *_, where, _ in Settings().rows()} == {configuration.PREFIX + name.upper() for name in TABLE}


def test_unknown_variables_are_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("FINEQUERY_TREADS", "2")
    logs.check_environment.cache_clear()
    with caplog.at_level(logging.WARNING, "finequery"):
        finequery.connect().close()
    assert 'FINEQUERY_TREADS in the environment is no setting. Did you mean "threads"' in caplog.text


def test_toml_is_not_imported_without_a_file(tmp_path: Path) -> None:
    code = "import sys, finequery; finequery.connect(); print('tomllib' in sys.modules or 'tomli' in sys.modules)"
    root = Path(__file__).parent.parent
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
        env={"PYTHONPATH": str(root), "HOME": str(tmp_path), "PATH": ""},
    )
    assert found.stdout.strip() == "False"


# --- logging ---------------------------------------------------------------------------------------------------------


def test_nothing_is_logged_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    with finequery.connect(log_slow=1e-9) as con:
        con.execute("select 1")
    assert capfd.readouterr() == ("", "")


def test_planning_queries_and_slow_ones_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with finequery.connect() as con, caplog.at_level(logging.DEBUG, "finequery"):
        con.execute("select 1 as a\n  from (values (1)) t")
        found = [(r.levelname, r.getMessage()) for r in caplog.records]
        assert any(level == "DEBUG" and "planned in" in text for level, text in found)
        end = " ms: select 1 as a from (values (1)) t"
        assert any(level == "INFO" and text.endswith(end) for level, text in found)
        caplog.clear()
        con.execute("set log_slow = 1e-9")
        con.execute("select 2")
        assert [r.levelname for r in caplog.records if "slow" in r.getMessage()] == ["WARNING"]
        caplog.clear()
        con.execute("set log_slow = 0")
        con.execute("select 2")
        assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_placements_and_departures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with finequery.connect(board="agx-xavier") as con, caplog.at_level(logging.DEBUG, "finequery"):
        con.execute("select count(*) from (values (1), (2)) t(a) where a > 1")
    assert any("pipeline 1: " in r.getMessage() and "simulated" in r.getMessage() for r in caplog.records)
    from finequery.operators.context import Context, Measured
    from finequery.operators.pool import get_pool

    context = Context(get_pool(1), measured={1: Measured(departed=["no form"])})
    with caplog.at_level(logging.DEBUG, "finequery"):
        logs.departed(context)
    assert caplog.records[-1].levelname == "WARNING" and "no form" in caplog.records[-1].getMessage()


def test_log_level(capfd: pytest.CaptureFixture[str]) -> None:
    with finequery.connect() as con:
        con.execute("set log_level = 'info'")
        con.execute("select 41 + 1")
        assert "INFO finequery: " in capfd.readouterr().err
        con.execute("set log_level = 'off'")
        con.execute("select 41 + 2")
        assert capfd.readouterr().err == ""
        con.execute("reset log_level")
        with pytest.raises(DataError, match="log_level must be one of"):
            con.execute("set log_level = 'loud'")
    assert logs.logger.level == logging.NOTSET and len(logs.logger.handlers) == 1


def test_the_page_names_all_variables() -> None:
    page = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
    assert all(variable in page for variable in configuration.OTHERS)
