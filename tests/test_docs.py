"""The documentation: its code runs and prints what it says, and the site builds without warnings."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import finequery
from finequery.shell.tokens import inputs

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the page's blocks of code that run: Python's sessions, the shell's, and SQL."""
    found = [(m[1], m[2]) for m in FENCE.finditer(page.read_text(encoding="utf-8"))]
    return [(language, text) for language, text in found if language in ("pycon", "console", "sql")]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.stem)
def test_code(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of the page, in one folder, where it may write files and databases."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with finequery.connect() as con:
        for language, text in blocks(page):
            if language == "pycon":
                test = doctest.DocTestParser().get_doctest(text, names, page.stem, str(page), 0)
                assert test.examples
                failed, _ = doctest.DocTestRunner(verbose=False).run(test, clear_globs=False)
                assert not failed, capsys.readouterr().out
                names = test.globs
            elif language == "sql":
                for statement in inputs(text):
                    con.execute(statement.text).fetchall()
            else:
                for command, wanted in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.M):
                    assert shown(command) == wanted


def shown(command: str) -> str:
    """What a command of ours prints."""
    program, *arguments = shlex.split(command)
    assert program == "finequery"
    started = [sys.executable, "-m", "finequery", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_ENABLE_CUDASIM": "0"}
    run = subprocess.run(started, capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_site_builds_without_warnings(tmp_path: Path) -> None:
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module)
    build = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-d", str(tmp_path / "trees"), str(DOCS)]
    run = subprocess.run([*build, str(tmp_path / "html")], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    for page in ("index", "functions", "settings", "experiments", "comparison"):
        assert (tmp_path / "html" / f"{page}.html").exists()
    functions = (tmp_path / "html" / "functions.html").read_text(encoding="utf-8")
    assert "regexp_replace" in functions and "percent_rank" in functions
