"""``finequery compare``: sides, numbers, the table, the page, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import compare_discrete
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finequery import scheduling, shell, workloads
from finequery.bench import record
from finequery.compare import comparison, measure, measures, page, plots, result, sides, simulate, text, work
from finequery.compare.result import Answered, Facts, Result, Run
from finequery.errors import DataError, Error, FileError, NotSupportedError, OperationalError, ProgrammingError
from finequery.jetson import board as boards
from finequery.jetson.device import Info
from finequery.planner.stages import Site
from finequery.session import Session

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCALE = 0.01
ONLY = "q1.1,q2.1,q4.2"


@pytest.fixture(scope="module")
def ssb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a little SSB."""
    return next(iter(workloads.generate("ssb", SCALE).values())).parent


@pytest.fixture(scope="module")
def small(ssb: Path) -> work.Work:
    return work.suite("ssb", SCALE, ssb, ONLY.split(","))


@pytest.fixture(scope="module")
def counted(small: work.Work) -> list[simulate.Counted]:
    return simulate.counted(small)


@pytest.fixture(scope="module")
def both(small: work.Work, counted: list[simulate.Counted]) -> tuple[Result, Result]:
    """AGX Xavier in a low power mode, and a machine with a discrete GPU."""
    a, b = (simulate.simulated(sides.side(name), small, counted) for name in ("agx-xavier:15W", "rtx-2080-ti"))
    return a, b


def made(seconds: dict[str, float], cold: dict[str, float] | None = None, **facts: Any) -> Result:
    """A result by hand; a joule for every second."""
    found = {}
    for name, s in seconds.items():
        resident = Run((s,), joules=s, idle_joules=s / 2, operands=1e9)
        runs = {"resident": resident} | ({"cold": replace(resident, seconds=(cold[name],))} if cold else {})
        found[name] = Answered(1, {"placed": runs, "gpu": runs, "cpu": runs})
    return Result(Facts(**{"title": "made", **facts}), "ssb", 1.0, found)


def run(*words: str) -> int:
    return shell.main(["compare", *words])


# The numbers


def test_measures_by_hand() -> None:
    """Two queries: A takes 1 and 2 s, B 2 and 1 s resident, 4 and 2 s cold; B costs ten times as much, draws five."""
    a = made({"q1": 1.0, "q2": 2.0}, title="A", usd=100.0, tdp_w=20.0, peak_gbs=10.0)
    b = made({"q1": 2.0, "q2": 1.0}, {"q1": 4.0, "q2": 2.0}, title="B", discrete=True, usd=900.0, host_usd=100.0)
    b = replace(b, facts=replace(b.facts, tdp_w=100.0, peak_gbs=100.0))
    found = comparison.compare(a, b)
    resident, cold = (found["against"]["placed"][r] for r in ("resident", "cold"))
    assert resident["time_over"] == pytest.approx(1.0)  # sqrt(1/2 · 2)
    assert resident["less_time"] == pytest.approx((0.5 - 1.0) / 2)
    assert resident["faster"] == 1
    assert resident["per_cost"] == pytest.approx((2.0 + 0.5) / 2 * 1000 / 100)
    assert resident["per_card"] == pytest.approx((2.0 + 0.5) / 2 * 900 / 100)
    assert resident["per_watt"] == pytest.approx((2.0 + 0.5) / 2 * 5)
    assert resident["joules"] == pytest.approx((2.0 + 0.5) / 2)
    assert cold["time_over"] == pytest.approx(0.5, abs=1e-5)
    assert cold["faster"] == 1 and cold["less_time"] == pytest.approx((0.75 + 0.0) / 2)
    cell = found["queries"][0]["a"]["placed"]["resident"]
    assert cell["ms"] == 1000.0 and cell["mj"] == 1000.0 and cell["used"] == pytest.approx(0.1)
    assert found["queries"][0]["over"] == {"resident": 0.5, "cold": 0.25}
    assert found["queries"][0]["a"]["placed"]["cold"] == cell  # nothing is copied to A


def test_one_device_alone_by_hand() -> None:
    a = made({"q1": 1.0, "q2": 1.0}, peak_gbs=10.0)
    slow = {"cpu": (2.0, 4.0), "gpu": (4.0, 1.0)}
    queries = {
        name: Answered(
            1, {**q.runs, **{way: {"resident": Run((times[i],), operands=1e9)} for way, times in slow.items()}}
        )
        for i, (name, q) in enumerate(a.queries.items())
    }
    alone = comparison.compare(replace(a, queries=queries), a)["alone"]["a"]["resident"]
    assert alone["less_time"]["cpu"] == pytest.approx((0.5 + 0.75) / 2)
    assert alone["less_time"]["gpu"] == pytest.approx((0.75 + 0.0) / 2)
    assert alone["less_time"]["better"] == pytest.approx((0.5 + 0.0) / 2)
    assert alone["less_time"]["mean"] == pytest.approx(((1 - 1 / 3) + (1 - 1 / 2.5)) / 2, abs=1e-5)
    assert alone["used"]["over"]["cpu"] == pytest.approx(0.1 / ((0.05 + 0.025) / 2), abs=1e-4)


def test_the_papers_figures() -> None:
    """As published (IEEE TPDS 2022, and the author's slides for the latency against a discrete GPU)."""
    assert {key: p.value for key, p in measures.PAPER.items()} == {
        "single": 0.4281,
        "bandwidth": 2.39,
        "latency": 0.5669,
        "cost": 21.0,
        "energy": 4.0,
    }
    assert measures.per_unit([1.0], [1.0], 0.0, 5.0) is None


def test_simulated_like_a_query_on_the_board(ssb: Path, small: work.Work, both: tuple[Result, Result]) -> None:
    """A query that runs for the second time with ``board`` set takes what the comparison says."""
    with small.open(board="agx-xavier:15W") as connection:
        for name, sql in small.queries.items():
            connection.sql(sql).execute()
            relation = connection.sql(sql).execute()
            assert relation.timeline().seconds == pytest.approx(both[0].queries[name].runs["placed"]["resident"].median)
            assert len(relation) == both[0].queries[name].rows


def test_regimes(both: tuple[Result, Result]) -> None:
    """A discrete GPU pays for its copies, an integrated one has none."""
    for answered in both[0].queries.values():
        assert answered.runs["gpu"]["cold"] == answered.runs["gpu"]["resident"]
    for answered in both[1].queries.values():
        assert answered.runs["gpu"]["cold"].median > answered.runs["gpu"]["resident"].median
        assert "h2d" in {engine for engine, *_ in answered.runs["gpu"]["cold"].timeline}
        assert answered.runs["placed"]["cold"].median <= 1.01 * answered.runs["gpu"]["cold"].median


def test_columns_that_do_not_fit_the_gpu(
    small: work.Work, counted: list[simulate.Counted], both: tuple[Result, Result]
) -> None:
    """A GPU with too little memory copies them always, and it is said."""
    board = boards.load("rtx-2080-ti")
    assert board.gpu_memory is not None
    tiny = replace(board, gpu_memory=replace(board.gpu_memory, capacity_bytes=1e3))
    found = simulate.simulated(sides.Side("tiny", board=tiny), small, counted)
    for answered in found.queries.values():
        resident, cold = (answered.runs["gpu"][regime] for regime in ("resident", "cold"))
        assert resident.seconds == cold.seconds and "do not fit" in resident.note and not cold.note
    document = comparison.compare(both[0], found)
    assert "q1.1, q2.1, q4.2 on GeForce RTX 2080 Ti, resident: the columns do not fit" in page.html(document)


def test_intervals_of_simulated_times(both: tuple[Result, Result]) -> None:
    for one in both:
        for answered in one.queries.values():
            for run_ in (run_ for regimes in answered.runs.values() for run_ in regimes.values()):
                assert run_.low is not None and run_.high is not None and run_.low < run_.median < run_.high


def test_one_device_of_a_board(small: work.Work, counted: list[simulate.Counted], both: tuple[Result, Result]) -> None:
    gpu = simulate.simulated(sides.side("rtx-2080-ti:gpu"), small, counted)
    assert gpu.facts.title == "GeForce RTX 2080 Ti, GPU only" and gpu.facts.device == "gpu"
    for name, answered in gpu.queries.items():
        assert answered.runs["placed"] == both[1].queries[name].runs["gpu"]
        assert set(answered.runs["placed"]["resident"].plan.split()) == {"G"}


# The command


@pytest.fixture(scope="module")
def written(ssb: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Numbers and page of two simulated sides."""
    folder = tmp_path_factory.mktemp("compare")
    words = ["--suite", "ssb", "--scale", str(SCALE), "--data", str(ssb), "--only", ONLY]
    files = ["--json", str(folder / "out.json"), "--html", str(folder / "out.html"), "--timeline", "q1.1,q4.2"]
    assert run("agx-xavier:15W", "rtx-2080-ti", *words, *files) == 0
    return json.loads((folder / "out.json").read_text()), (folder / "out.html").read_text()


def test_table(both: tuple[Result, Result]) -> None:
    shown = text.show(comparison.compare(*both))
    assert all(len(line) <= 120 for line in shown[shown.index("Latency") :].splitlines())
    for said in (
        "Jetson AGX Xavier 15W: simulated",
        "56.69 % less",
        "21 times",
        "42.81 % less",
        "2.39 times",
        "4 times",
    ):
        assert said in shown
    head = shown[shown.index("Latency") :].splitlines()
    assert head[1].split() == "query A B cold B resident A over B A over B".split()
    assert head[2].split().count("interval") == 3
    assert head[3].split() == ["simulated"] * 8 and " measured " not in shown[: shown.index("Bandwidth")]


class Data(HTMLParser):
    """The ``<data>`` of a page: place, value, whether it is marked as simulated, and text."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[list[Any]] = []
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.inside = tag == "data"
        if self.inside:
            said = dict(attrs)
            self.found.append([said["data-at"], said["value"], said.get("class") == "sim", ""])

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1][3] += data

    def handle_endtag(self, tag: str) -> None:
        self.inside = False


def test_page_has_the_numbers_of_the_json(written: tuple[dict[str, Any], str]) -> None:
    document, html = written
    found = Data(html).found
    assert len(found) > 100
    for place, value, simulated, shown in found:
        at: Any = document
        for key in place.split("/"):
            at = at[int(key)] if isinstance(at, list) else at[key]
        assert repr(at) == value, place
        digits = re.sub(r"[^\d.]", "", shown)
        percent = 100.0 if shown.endswith("%") else 1.0
        assert float(digits) == pytest.approx(abs(at) * percent, rel=0.006, abs=0.051), (place, shown)
        given = place.startswith("sides/") or place.endswith("/rows")  # what was read, or counted here
        assert simulated is not given, place
    for n, q in enumerate(document["queries"]):
        for side, regime in (("a", "resident"), ("b", "cold"), ("b", "resident")):
            assert f"queries/{n}/{side}/placed/{regime}/ms" in {f[0] for f in found}, q["query"]


def test_page_needs_nothing_else_and_is_well_formed(written: tuple[dict[str, Any], str]) -> None:
    _, html = written
    assert len(html) < 300_000
    for word in ("http:", "https:", "//", "url(", "@import", "<script", "src=", "href=", "<link", "javascript"):
        assert word not in html.replace("<!DOCTYPE html>", ""), word
    root = ElementTree.fromstring(html.removeprefix("<!DOCTYPE html>"))
    assert root.tag == "html" and root.find("head/meta").get("charset") == "utf-8"  # type: ignore[union-attr]
    assert "prefers-color-scheme: dark" in html and "color-scheme: light dark" in html
    used = {name for e in root.iter() for name in (e.get("class") or "").split()}
    styled = set(re.findall(r"\.([a-z][\w-]*)", html[html.index("<style>") : html.index("</style>")]))
    assert used - styled <= {"text"} | styled
    assert "--" not in {e.get("fill") for e in root.iter()}


def test_plots(written: tuple[dict[str, Any], str]) -> None:
    document, html = written
    root = ElementTree.fromstring(html.removeprefix("<!DOCTYPE html>"))
    latency, energy, *timelines = root.iter("svg")
    assert len(timelines) == 2 and list(document["timelines"]) == ["q1.1", "q4.2"]
    for plot, unit in ((latency, "ms"), (energy, "mJ")):
        tips = [e.text or "" for e in plot.iter("title")]
        assert len(tips) == 3 * len(document["queries"])  # A, and B in both regimes
        assert all(tip.endswith("simulated") and unit in tip for tip in tips)
        names = [e.text or "" for e in plot.iter("text")]
        assert sum(name.endswith("(simulated)") for name in names) >= 4  # the legend, and the axes
    heights = [float(e.get("height", "0")) for e in latency.iter("rect") if e.find("title") is not None]
    first, second = (document["queries"][0][s]["placed"][r]["ms"] for s, r in (("a", "resident"), ("b", "cold")))
    assert heights[0] / heights[1] == pytest.approx(first / second, rel=0.05)
    for plot in timelines:
        titles = [e.text or "" for e in plot.iter("text") if e.get("class") == "name"]
        assert any(t.startswith("Jetson AGX Xavier 15W (simulated)") for t in titles)
        for rect in plot.iter("rect"):
            assert float(rect.get("x", "-1")) >= 0 and float(rect.get("x", "0")) + float(rect.get("width", "0")) <= 1000


def test_rows_of_a_timeline_hide_nothing() -> None:
    bars = [
        ("cpu", 1, 0.0, 2.0),
        ("cpu", 2, 1.0, 3.0),
        ("cpu", 1, 2.0, 4.0),
        ("gpu", 3, 0.0, 9.0),
        ("cpu", 3, 5.0, 6.0),
    ]
    rows = plots._rows(bars, "cpu", 1e-9)
    assert sorted(bar for row in rows for bar in row) == [
        *(("cpu", 1, 0.0, 4.0), ("cpu", 2, 1.0, 3.0), ("cpu", 3, 5.0, 6.0))
    ]
    for row in rows:
        assert all(a[3] <= b[2] for a, b in itertools.pairwise(row))


def test_plots_of_their_own(both: tuple[Result, Result]) -> None:
    document = comparison.compare(*both, ["q4.2"])
    for plot in (page.latency_plot(document), page.energy_plot(document), page.timeline_plot(document, "q4.2")):
        root = ElementTree.fromstring(plots.alone(plot))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        style = root[0].text or ""
        assert "prefers-color-scheme: dark" in style and ".a-only" in style


# Files


def test_a_file_as_a_side(ssb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a machine wrote alone compares elsewhere as it would have there; suite and scale are the file's."""
    kept, whole, parts = (tmp_path / name for name in ("jetson.json", "whole.json", "parts.json"))
    data = ["--data", str(ssb)]
    asked = ["--scale", str(SCALE), "--only", ONLY, *data]
    assert run("agx-xavier", *asked, "--json", str(kept)) == 0
    assert "simulated" in capsys.readouterr().out
    assert run("agx-xavier", "h100", *asked, "--json", str(whole)) == 0
    assert run(str(kept), "h100", *data, "--json", str(parts)) == 0
    assert json.loads(parts.read_text()) == json.loads(whole.read_text())
    assert record.read(kept).median("finequery", "q1.1") == pytest.approx(
        json.loads(whole.read_text())["queries"][0]["a"]["placed"]["resident"]["ms"] / 1e3, rel=1e-5
    )
    assert run(str(kept), str(kept)) == 0
    assert run(str(kept), "h100", *data, "--scale", "2") == 1
    assert "at scale 0.01" in capsys.readouterr().err


def bench_file(path: Path, **changes: Any) -> Path:
    queries = {"q1.1": {"seconds": [0.5, 0.4, 0.6], "rows": 1}, "q2.1": {"seconds": [], "rows": 0, "problem": "no"}}
    found = record.Results("ssb", SCALE, {"cpu": "Carmel"}, {"warnings": ["hot"]}, {"finequery": queries})
    record.write(path, found)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_a_file_of_bench(ssb: Path, tmp_path: Path) -> None:
    """Measured times without anything else: no joules, no bytes, no price; a query that failed is left out."""
    kept = bench_file(tmp_path / "bench.json")
    out, html = tmp_path / "out.json", tmp_path / "out.html"
    assert run(str(kept), "agx-xavier", "--data", str(ssb), "--json", str(out), "--html", str(html)) == 0
    document = json.loads(out.read_text())
    (q,) = document["queries"]
    cell = q["a"]["placed"]["resident"]
    assert (cell["ms"], cell["runs"], cell["mj"], cell["used"]) == (500.0, 3, None, None)
    assert cell["low_ms"] < cell["ms"] < cell["high_ms"]
    assert document["against"]["placed"]["resident"]["joules"] is None
    marks = {place: simulated for place, _, simulated, _ in Data(html.read_text()).found}
    assert marks["queries/0/a/placed/resident/ms"] is False
    assert marks["queries/0/b/placed/resident/ms"] and marks["queries/0/over/resident"]
    assert "hot" in html.read_text() and "Carmel: measured" in html.read_text()


def test_a_file_of_bench_on_a_board(ssb: Path, tmp_path: Path) -> None:
    """Simulated there and here: the same times and joules."""
    kept, out = tmp_path / "bench.json", tmp_path / "out.json"
    words = ["bench", "ssb", "--scale", str(SCALE), "--only", ONLY, "--board", "h100", "--json", str(kept)]
    assert shell.main([*words, "--data", str(ssb)]) == 0
    assert run(str(kept), "h100", "--data", str(ssb), "--json", str(out)) == 0
    document = json.loads(out.read_text())
    assert document["sides"]["a"]["simulated"] and document["sides"]["a"]["usd"] == 25_000
    for q in document["queries"]:
        mine, theirs = (q[side]["placed"]["resident"] for side in ("a", "b"))
        assert (mine["ms"], mine["mj"]) == pytest.approx((theirs["ms"], theirs["mj"]))
        assert "cold" not in q["a"]["placed"]  # the file does not say
    assert document["against"]["placed"]["cold"] is None


def test_a_files_board_has_its_price(tmp_path: Path) -> None:
    read = sides.side(str(bench_file(tmp_path / "a.json", board="agx-xavier"))).file
    assert read is not None and read.facts.usd == 699.0 and not read.facts.simulated
    assert sides.with_price(read, 500.0).facts.usd == 500.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engines": {"duckdb": {}}}, 'no "finequery"'),
        ({"engines": {"finequery": {}}}, "no query that FineQuery answered"),
        ({"engines": {"finequery": {"q": {"seconds": [0.0]}}}}, "not above 0"),
        ({"engines": {"finequery": {"q": {"seconds": ["a"]}}}}, "could not convert"),
        ({"engines": {"finequery": {"q": {"seconds": [1.0], "runs": {"fpga": {"cold": {"seconds": [1]}}}}}}}, "fpga"),
        ({"engines": {"finequery": {"q": {"runs": {"placed": {"cold": {"seconds": [1]}}}}}}}, 'no "resident"'),
        ({"engines": {"finequery": {"q": {"seconds": [1.0], "resident": False}}}}, "columns were cold"),
        ({"simulated": "maybe"}, "neither true nor false"),
        ({"side": {"title": "x", "simulated": True}}, "contradict"),
        ({"board": "abacus"}, "abacus"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises((DataError, OperationalError), match=re.escape(said)):
        sides.side(str(bench_file(tmp_path / "a.json", **changes)))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(FileError, match="not JSON"):
        sides.side(str(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(FileError):
        sides.side(str(tmp_path / "a.json"))
    with pytest.raises(FileError, match="Can't read"):
        sides.side(str(tmp_path / "b.json"))


def test_results_survive_their_file(tmp_path: Path, both: tuple[Result, Result]) -> None:
    for one in both:
        record.write(tmp_path / "a.json", one.record())
        assert result.read(tmp_path / "a.json") == one


# Work


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of queries and a table."""
    pq.write_table(pa.table({"k": list(range(1000)) * 5, "v": list(range(5000))}), tmp_path / "sales.parquet")
    folder = tmp_path / "queries"
    folder.mkdir()
    (folder / "sums.sql").write_text("select k % 10 as g, sum(v) from sales group by g; select count(*) from sales;")
    (folder / "top.sql").write_text("-- the best\nselect * from sales order by v desc limit 3")
    return folder, tmp_path / "sales.parquet"


def test_own_queries(own: tuple[Path, Path], tmp_path: Path) -> None:
    folder, table = own
    out, html = tmp_path / "out.json", tmp_path / "out.html"
    files = ["--json", str(out), "--html", str(html)]
    assert run("agx-xavier", "v100", "--queries", str(folder), "--data", str(table), *files) == 0
    document = json.loads(out.read_text())
    assert [(q["query"], q["rows"]) for q in document["queries"]] == [("sums-1", 10), ("sums-2", 1), ("top", 3)]
    assert document["suite"] == "own" and "own queries, 3 queries" in html.read_text()
    assert run("agx-xavier", "--queries", str(folder / "top.sql"), "--data", f"sales={table}", *files[:2]) == 0
    assert run(str(out), "v100", "--queries", str(folder / "top.sql"), "--data", str(table)) == 0
    (folder / "top.sql").write_text("select * from sales order by v limit 3")
    assert run(str(out), "v100", "--queries", str(folder / "top.sql"), "--data", str(table)) == 1


@pytest.mark.parametrize(
    ("sql", "error", "said"),
    [
        ("drop table sales", NotSupportedError, "no query: drop table sales"),
        ("explain select 1 from sales", NotSupportedError, "no query"),
        ("-- nothing", ProgrammingError, "no query in"),
        ("select from where", Error, "from"),
    ],
)
def test_own_queries_that_are_refused(own: tuple[Path, Path], sql: str, error: type[Error], said: str) -> None:
    (own[0] / "top.sql").write_text(sql)
    with pytest.raises(error, match=re.escape(said)):
        work.own([own[0]], [str(own[1])])
    assert own[1].exists()


def test_own_files_that_are_refused(own: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no \.sql file"):
        work.own([tmp_path], [str(own[1])])
    with pytest.raises(FileError, match="neither Parquet nor CSV"):
        work.own([own[0]], [str(tmp_path / "sales.xlsx")])
    with pytest.raises(ProgrammingError, match="name for a table"):
        work.own([own[0]], [str(tmp_path / "2024-sales.parquet")])


# This machine


def test_this_machine(own: tuple[Path, Path], tmp_path: Path) -> None:
    """Measured: several runs with a spread, and nothing of it is called simulated."""
    out, html = tmp_path / "out.json", tmp_path / "out.html"
    words = ["--queries", str(own[0]), "--data", str(own[1]), "--seconds", "0", "--no-energy", "--usd-a", "400"]
    assert run("this:cpu", "agx-xavier", *words, "--json", str(out), "--html", str(html)) == 0
    document = json.loads(out.read_text())
    assert document["sides"]["a"]["simulated"] is False and document["sides"]["a"]["machine"]["cores"]
    for q in document["queries"]:
        cell = q["a"]["placed"]["resident"]
        assert cell["runs"] >= 5 and cell["low_ms"] <= cell["ms"] <= cell["high_ms"] and not cell["simulated"]
        assert cell["used"] > 0 and cell["traffic"] is None
        assert q["b"]["placed"]["resident"]["simulated"]
    for place, _, simulated, _ in Data(html.read_text()).found:
        mine = place.startswith(("alone/a/", "sides/")) or "/a/" in place or place.endswith("/rows")
        assert simulated is not mine, place
    assert document["against"]["placed"]["resident"]["per_cost"] > 0  # by the price that was given


def test_this_machine_with_a_discrete_gpu(
    own: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads pose as its GPU. All ways are measured, and before each cold run the copies are forgotten."""
    gpu, trims = scheduling.posing("h100"), []
    gpu.trim = lambda: trims.append(1)
    monkeypatch.setattr(Session, "device", lambda self: None if self.settings["device"] == "cpu" else gpu)
    told = Info("NVIDIA H100 PCIe", (9, 0), False, True, False, True, 114, 2048, 50 << 20, 100 << 10, 80 << 30, (12, 4))
    monkeypatch.setattr("finequery.jetson.device.probe", lambda: told)
    monkeypatch.setattr("finequery.scheduling.described", lambda: boards.load("h100"))
    monkeypatch.setattr("finequery.scheduling._site", _site_of_h100)
    found = measure.measured(sides.side("this"), work.own([own[0]], [str(own[1])]), 0.0, energy=False)
    assert found.facts.title == "NVIDIA H100 PCIe" and found.facts.discrete and not found.facts.simulated
    assert found.facts.usd == 25_000 and found.facts.peak_gbs == pytest.approx(2307.2)
    for answered in found.queries.values():
        assert set(answered.runs) == {"placed", "cpu", "gpu"}
        assert answered.runs["cpu"]["cold"] == answered.runs["cpu"]["resident"]
        assert answered.runs["gpu"]["cold"].seconds != answered.runs["gpu"]["resident"].seconds
    runs = sum(len(a.runs[way]["cold"].seconds) + 2 for a in found.queries.values() for way in ("placed", "gpu"))
    assert len(trims) == runs
    record.write(tmp_path / "a.json", found.record())
    assert result.read(tmp_path / "a.json") == found


def _site_of_h100(settings: Any, context: Any, board: Any) -> Any:
    return Site(board, context.pool.threads), scheduling.model_of(board, simulated=True)


# Refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["this", "h100", "v100"], "two sides, not 3"),
        (["abacus", "h100"], 'no board "abacus"'),
        (["agx-xavier:20W", "h100"], 'no power mode "20W"'),
        (["host:gpu", "h100"], "has no GPU"),
        (["this:15W", "h100"], "This machine is this"),
        (["this:gpu", "h100", "--scale", str(SCALE)], "of GPUs this machine has"),
        (["h100", "--html", "x.html"], "compares two sides"),
        (["h100", "v100", "--queries", "a.sql"], "need the files of their tables"),
        (["h100", "v100", "--queries", "a.sql", "--data", "a.csv", "--suite", "ssb"], "no --suite"),
        (["h100", "v100", "--scale", "-1"], "above 0"),
        (["h100", "v100", "--only", "q9.9", "--scale", str(SCALE)], 'no query "q9.9"'),
    ],
)
def test_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 1
    assert said in capsys.readouterr().err


def test_sides_of_different_work() -> None:
    a = made({"q1": 1.0})
    for b, said in (
        (replace(a, scale=2.0), "different work"),
        (replace(a, suite="tpch"), "different work"),
        (made({"q2": 1.0}), "no query in common"),
        (replace(a, queries={"q1": replace(a.queries["q1"], rows=7)}), "1 rows on one side and 7"),
    ):
        with pytest.raises(DataError, match=said):
            comparison.compare(a, b)
    with_text = [replace(a, queries={"q1": replace(a.queries["q1"], text=t)}) for t in ("x", "y")]
    with pytest.raises(DataError, match="another query"):
        comparison.compare(*with_text)
    with pytest.raises(DataError, match="q5"):
        comparison.compare(a, a, ["q5"])
    assert comparison.compare(a, made({"q1": 1.0, "q2": 3.0}))["left_out"] == ["q2"]


# The page under docs


def test_docs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All its pages, plots and numbers; two runs write the same."""

    def made_docs(name: str) -> dict[str, str]:
        folder = tmp_path / name
        assert compare_discrete.main(["--docs", "--scale", str(SCALE), "--folder", str(folder)]) == 0
        return {str(f.relative_to(folder)): f.read_text() for f in sorted(folder.rglob("*.*"))}

    first = made_docs("a")
    md = first["comparison.md"]
    for link in re.findall(r"\]\(([^)]+)\)", md):
        assert link in first or (DOCS / link).is_file(), link  # the picture of a page is not made with the pages
    assert "simulated" in md and "56.69 % less" in md and "42.81 % less" in md and "2.39 times" in md
    document = json.loads(first["comparison/tpch-v100.json"])
    assert len(document["queries"]) == 22 and all(document["sides"][s]["simulated"] for s in ("a", "b"))
    assert f"| {document['queries'][0]['a']['placed']['resident']['ms']:.3g} |" in md
    assert all(len(html) < 300_000 for name, html in first.items() if name.endswith(".html"))
    assert made_docs("b") == first
