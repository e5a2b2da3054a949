"""How far queries are: ``Connection.progress``, the bar, the file of the process, ``finequery top``."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from stops import stopping

import finequery
from finequery import bar, progress, published, shell, top, top_text
from finequery.errors import InterruptError
from finequery.jetson.telemetry import Reading
from finequery.operators.watch import Stage
from finequery.progress import PipelineProgress, Progress

ROOT = Path(__file__).parent.parent
ENDLESS = "select sum(a.f * b.f) from t a join t b on a.g = b.g"
BOUND = 30.0


@pytest.fixture
def con() -> Iterator[Any]:
    rows = 400_000
    with finequery.connect(threads=2) as con:
        con.register("source", {"g": np.arange(rows) % 3, "f": np.arange(rows) / rows})
        con.execute("create table t as select * from source")
        yield con


def during(con: Any, query: str, look: Callable[[], Any]) -> Any:
    """Run a query that does not end until ``look`` has given something; what it gave."""
    found: list[Any] = []
    begin = time.monotonic()

    def looks() -> None:
        seen = None if found else look()
        if seen:
            found.append(seen)
        if found or time.monotonic() - begin >= BOUND:
            con.interrupt()

    with stopping(looks, 0.01, 0.01), pytest.raises(InterruptError):
        while True:
            con.execute(query)
    assert found, "nothing was to be seen"
    return found[0]


def test_nothing_runs(con: Any) -> None:
    assert con.progress() is None
    con.execute(ENDLESS + " where a.f < 1e-4")
    assert con.progress() is None


def test_a_running_query(con: Any) -> None:
    def look() -> Any:
        seen = con.progress()
        return seen if seen and seen.pipelines and seen.pipelines[-1].done_rows and seen.remaining else None

    first = during(con, ENDLESS, look)
    assert first.text == ENDLESS and 0.0 < first.done < 1.0 and first.seconds > 0.0 and first.remaining > 0.0
    build, probe = first.pipelines
    assert (build.number, build.done, build.device) == (1, 1.0, "cpu") and build.rows == build.done_rows == 400_000
    assert "probe" in probe.name and "scan t" in probe.name and 0 < probe.done_rows < 400_000
    assert first.doing.startswith("pipeline 2 of 2: scan t")


def test_it_never_goes_back_and_nears_the_end(con: Any) -> None:
    """Over a query that ends: looks from another thread give shares that grow."""
    seen: list[float] = []
    done = threading.Event()

    def looks() -> None:
        while not done.wait(0.002):
            progress = con.progress()
            if progress is not None and progress.done is not None:
                seen.append(progress.done)

    helper = threading.Thread(target=looks)
    helper.start()
    con.execute(ENDLESS + " and b.f < 0.005")
    done.set()
    helper.join()
    assert seen and seen == sorted(seen) and seen[0] >= 0.0 and seen[-1] <= 1.0


def test_reading_and_writing_have_names(con: Any, tmp_path: Path) -> None:
    con.execute(f"copy (select f, g from t) to '{tmp_path}/a.parquet' (row_group_size 1000)")

    def doing(text: str) -> Callable[[], bool]:
        return lambda: (seen := con.progress()) is not None and seen.doing == text

    during(con, f"copy (select a.f, a.g from t a, (values (1), (2)) v) to '{tmp_path}/b.csv'", doing("writing"))
    con.execute("set plan_cache_size = 0")
    found = threading.Event()

    def looks() -> None:
        while not found.is_set():
            if doing("reading a")():
                found.set()

    helper = threading.Thread(target=looks)
    helper.start()
    begin = time.monotonic()
    while not found.is_set() and time.monotonic() - begin < BOUND:
        con._session.sources._files.clear()  # read anew
        con.execute(f"select sum(f), sum(g) from '{tmp_path}/a.parquet'")
    seen = found.is_set()
    found.set()
    helper.join()
    assert seen


def test_stages() -> None:
    stage = Stage("x", 10)
    stage.done = 3
    assert stage.share == 0.3 and Stage("x", 10, lambda: 25).share == 1.0 and Stage("x", 0).share == 0.0


# --- the bar ---------------------------------------------------------------------------------------------------------

HALF = Progress("select 1", 12.0, 0.5, 12.5, "pipeline 2 of 3: scan t")


def test_the_line() -> None:
    line = bar.text(HALF, 100)
    assert line == "████████████············  50%  12 s, 12 s left  pipeline 2 of 3: scan t"
    assert len(bar.text(HALF, 40)) == 40
    assert bar.text(Progress("", 3.0, None, None, "reading t"), 80) == "3.0 s  reading t"
    words = [bar.duration(s) for s in (0.05, 9.94, 61.0, 130.0, 8000.0)]
    assert words == ["50 ms", "9.9 s", "61 s", "2 min", "2.2 h"]


def test_who_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, file = SimpleNamespace(isatty=lambda: True), SimpleNamespace(isatty=lambda: False)
    monkeypatch.setenv("TERM", "xterm")
    for err, out, wanted in ((terminal, terminal, True), (terminal, file, False), (file, terminal, False)):
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "stdout", out)
        assert bar.wanted("auto") is wanted
        assert bar.wanted("on") and not bar.wanted("off")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    assert not bar.wanted("auto")
    notebook = type("Stream", (), {"__module__": "ipykernel.iostream", "isatty": lambda self: False})()
    monkeypatch.setattr(sys, "stderr", notebook)
    assert bar.wanted("auto")


LONG = """
import threading, time, finequery, sys
import numpy as np
con = finequery.connect(threads=1, progress="off")
con.register("t", {{"g": np.arange(400_000) % 7}})
con.execute("select count(*) from t a, t b where a.g + b.g < 0 and a.g < 0")  # loads what is loaded once
con.execute("set progress = '{progress}'")

def stops():
    time.sleep({after})
    while True:  # the first may come before the statement begins
        con.interrupt()
        time.sleep(0.05)

threading.Thread(target=stops, daemon=True).start()
try:
    con.execute("select count(*) from t a, t b where a.g <> b.g")
except finequery.Error as error:
    print("ended")
"""


def until_published() -> None:
    """Wait until the long statement of LONG is: on a busy machine those before it take long enough to be, too, and
    may have ended when somebody looks again."""
    begin = time.monotonic()
    while time.monotonic() - begin < BOUND:
        if any("<>" in query.text for process in published.processes() for query in process.queries):
            return
        time.sleep(0.05)
    raise AssertionError("nothing was published")


def until_closed(terminal: int) -> bytes:
    """What is written to a terminal until the program at its other end has closed it."""
    written = b""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 65536):
            written += part
    os.close(terminal)
    return written


def in_terminal(progress: str, after: float) -> str:
    """What a program with a long query writes to the terminal."""
    parent, child = pty.openpty()
    code = LONG.format(progress=progress, after=after)
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TERM="xterm")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=child, stderr=child, env=environment)
    os.close(child)
    written = until_closed(parent)
    process.wait()
    return written.decode()


def test_a_bar_is_drawn_and_taken_away() -> None:
    written = in_terminal("auto", 3.0)
    drawn = written.split("\r\x1b[K")
    assert len(drawn) > 3 and any("pipeline" in line and "%" in line for line in drawn)
    assert drawn[-1].strip() == "ended"  # behind the last erasing nothing of the bar is left
    assert len(drawn) <= 40  # ten a second at the most


def test_no_bar_where_it_is_off_or_short() -> None:
    assert in_terminal("off", 2.0).strip() == "ended"
    assert in_terminal("auto", 0.2).strip() == "ended"


# --- the file of the process -----------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "finequery"


def test_long_queries_are_published(place: Path, con: Any) -> None:
    def look() -> Any:
        found = published.processes()
        return found if found and found[0].queries[0].done else None

    (process,) = during(con, ENDLESS, look)
    assert process.pid == os.getpid() and abs(process.time - time.time()) < 60
    (query,) = process.queries
    assert query.text == ENDLESS and 0.0 < query.done < 1.0 and len(query.pipelines) == 2
    assert isinstance(query.pipelines[0], PipelineProgress)
    assert not list(place.glob("*")) and published.processes() == []
    assert place.stat().st_mode & 0o777 == 0o700


def test_who_ends_does_not_wait_for_who_looks(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, held, seen = threading.Event(), threading.Event(), threading.Event()

    def of_watch(_: Any) -> None:
        looked.set()
        held.wait(BOUND)
        seen.set()

    monkeypatch.setattr(progress, "of_watch", of_watch)
    try:
        with con._session.working("long"):
            assert looked.wait(BOUND)
        assert not seen.is_set()
    finally:
        held.set()


def test_short_queries_are_not(place: Path, con: Any) -> None:
    con.execute("select count(*) from t")
    time.sleep(0.3)
    assert not place.exists()


def test_stale_files_are_passed_over(place: Path) -> None:
    place.mkdir(parents=True)
    record = {"pid": os.getpid(), "started": published.started(os.getpid()), "command": "x", "time": 1.0, "queries": []}
    (place / "1.json").write_text(json.dumps(record | {"started": 1}))  # the identifier came again
    (place / "2.json").write_text(json.dumps(record | {"pid": 2**22 + 1, "started": None}))  # gone
    (place / "3.json").write_text("{")
    (place / "4.json").write_text(json.dumps(record | {"queries": [{"text": "no more"}]}))
    (place / "5.json").write_text("[]")
    assert published.processes() == []
    (place / "6.json").write_text(json.dumps(record))
    assert [p.command for p in published.processes()] == ["x"]


def test_a_killed_process_leaves_nothing_to_see(place: Path) -> None:
    code = LONG.format(progress="auto", after=60)
    process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=str(ROOT)))
    until_published()
    assert [p.pid for p in published.processes()] == [process.pid]
    process.kill()
    process.wait()
    assert published.processes() == []


# --- finequery top ---------------------------------------------------------------------------------------------------

QUERY = Progress(
    "select\n  sum(x)  from t",
    12.0,
    0.25,
    36.0,
    "pipeline 2 of 2: scan t",
    (
        PipelineProgress(1, "scan u, build", "cpu", 100, 100, 1.0),
        PipelineProgress(2, "scan t, probe, aggregate", "gpu", 1_000, 4_000, 0.25),
        PipelineProgress(3, "read, sort", "", 0, 10, 0.0),
    ),
)
FULL = top.Snapshot(
    "Jetson AGX Xavier",
    Reading(
        *(0.0, 21.5, {"GPU": 9.0, "CPU": 12.5}),
        cpu_load=0.5,
        gpu_load=0.96,
        memory_load=0.4,
        cpu_mhz=2265.0,
        gpu_mhz=1377.0,
        memory_mhz=2133.0,
        temperatures={"CPU": 51.0},
        mode="MAXN",
        throttled=True,
    ),
    *(8 << 30, 32 << 30, (1.0, 2.0, 3.0)),
    (published.Process(7, "python job.py", 0.0, (QUERY,)),),
    time=0.0,
)


def test_text_of_everything() -> None:
    lines = top_text.text(FULL).splitlines()
    assert lines[0].startswith("Jetson AGX Xavier · ")
    assert "CPU          ██████████··········  50%  2,265 MHz" in lines
    assert "Memory bus   ████████············  40%  2,133 MHz" in lines
    assert "Memory       █████···············  25%  8.0 of 32.0 GiB" in lines
    assert "Power        21.5 W (GPU 9.0 W, CPU 12.5 W)" in lines
    assert "Power mode   MAXN" in lines and any(line.startswith("Throttled    yes") for line in lines)
    assert "python job.py (process 7)" in lines and "  select sum(x) from t" in lines
    assert "  █████··············· 25%, 12 s, 36 s left  pipeline 2 of 2: scan t" in lines
    assert "    2 scan t, probe, aggregate: gpu, 25%, 1,000 of 4,000 rows" in lines
    assert "    3 read, sort: waiting" in lines
    assert all(len(line) <= top_text.WIDTH for line in lines)


def test_text_without_sensors() -> None:
    nothing = top.Snapshot("a machine", Reading(0.0), 0, 0, (0.0, 0.0, 0.0), (), ("there is no GPU",))
    found = top_text.text(nothing)
    assert "CPU" not in found and "Power" not in found and "Memory" not in found
    assert "not to be had: there is no GPU" in found and "No query has been running" in found


def test_the_view_and_its_picture(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    from finequery import top_view

    top_view.save_svg(FULL, str(tmp_path / "top.svg"))
    found = (tmp_path / "top.svg").read_text()
    assert (found.startswith("<svg") and "finequery&#160;top" in found) or "finequery top" in found
    for part in ("96%", "MAXN", "21.5", "probe", "waiting"):
        assert part in found.replace("&#160;", " ")


def test_top_once_sees_other_processes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LONG.format(progress="auto", after=60)],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    try:
        until_published()
        assert shell.main(["top", "--once"]) == 0
        out = capsys.readouterr().out
        assert f"(process {process.pid})" in out and "select count(*) from t a, t b" in out
        assert "Load average" in out and "\x1b" not in out
    finally:
        process.kill()
        process.wait()
    assert shell.main(["top"]) == 0  # without a terminal: one picture
    assert "No query has been running" in capsys.readouterr().out


def test_top_live() -> None:
    """In a terminal it draws a screen of its own until Ctrl-C, and leaves with 0."""
    pytest.importorskip("rich")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "finequery", "top", "--every", "0.2"],
        stdin=child,
        stdout=child,
        stderr=child,
        env=dict(os.environ, PYTHONPATH=str(ROOT), TERM="xterm-256color", COLUMNS="100", LINES="40"),
        start_new_session=True,
    )
    os.close(child)
    written = b""
    while b"Load average" not in written:
        written += os.read(parent, 65536)
    process.send_signal(2)
    written += until_closed(parent)
    assert process.wait() == 0
    assert b"\x1b[?1049h" in written and b"\x1b[?1049l" in written  # the alternate screen, and back


def test_top_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        shell.main(["top", "--every", "0"])
    assert "--every must be" in capsys.readouterr().err
