"""``finequery bench`` and its workloads: the command as a user calls it, answers, spread, comparing files."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finequery import workloads
from finequery.bench import diff, engines, measure, record, report, run, spread
from finequery.bench.answers import difference, order_keys
from finequery.bench.command import main
from finequery.bench.record import Results
from finequery.bench.spread import Bounds
from finequery.errors import CatalogError, DataError, FileError
from finequery.workloads import hits


def results(seconds: dict[str, list[float]], **changes: Any) -> Results:
    """Results of FineQuery with these times."""
    entries = {query: {"seconds": times, "rows": 1} for query, times in seconds.items()}
    made = Results("ssb", 1.0, {"cpu": "C", "cores": 2, "versions": {"duckdb": "2"}}, {}, {"finequery": entries})
    for name, value in changes.items():
        setattr(made, name, value)
    return made


# --- workloads --------------------------------------------------------------------------------------------------------


def test_queries_of_every_workload() -> None:
    assert {name: len(workloads.queries(name)) for name in workloads.NAMES} == {
        "ssb": 13, "tpch": 22, "clickbench-like": 36,
    }  # fmt: skip
    assert list(workloads.queries("ssb", ["q2.1", "q1.1"])) == ["q1.1", "q2.1"]
    with pytest.raises(CatalogError, match='no query "q9"'):
        workloads.queries("ssb", ["q9"])
    with pytest.raises(CatalogError, match='no workload "spb"'):
        workloads.queries("spb")


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Page views, of two chunks of the generator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hits, "ROWS_PER_CHUNK", 15_000)
        return hits.generate(0.02, tmp_path_factory.mktemp("hits")) / "hits.parquet"


@pytest.mark.parametrize("name", workloads.queries("clickbench-like"))
def test_page_views(name: str, views: Path) -> None:
    """Every value equals DuckDB's, in its order: the queries order by as much as they return."""
    import duckdb

    import finequery

    sql = workloads.queries("clickbench-like", [name])[name]
    with finequery.connect(threads=2) as con, duckdb.connect() as duck:
        for one in (con, duck):
            one.execute(f"create table hits as select * from '{views}'")
        want = duck.execute(sql).fetchall()
        keys = order_keys(sql, list(duck.sql(sql).columns))
        assert difference(con.sql(sql).fetchall(), want, keys) is None
        assert want  # all find something


def test_page_views_are_as_said(views: Path, tmp_path: Path) -> None:
    import duckdb

    duck = duckdb.connect()
    duck.execute(f"create view hits as select * from '{views}'")
    (facts,) = duck.sql("""
        select count(*), count(distinct watch_id), count(distinct event_date), bool_and(event_time::date = event_date),
            avg((search_phrase = '')::int), avg((campaign_id = 0)::int),
            bool_and((search_phrase = '') = (search_engine_id = 0)),
            bool_and(window_width <= screen_width and window_height <= screen_height)
        from hits""").fetchall()
    assert facts[:4] == (20_000, 20_000, 31, True) and facts[6:] == (True, True)
    assert 0.85 < facts[4] < 0.89 and 0.96 < facts[5] < 0.98
    times = duck.sql("select event_time from hits").fetchall()
    assert times == sorted(times)
    of_users = "select count(distinct region_id) as n from hits group by user_id"
    assert duck.sql(f"select max(n) from ({of_users})").fetchall() == [(1,)]
    of_pages = "select count(*) as n from hits group by url"
    (facts,) = duck.sql(f"select max(n), count(*) from ({of_pages})").fetchall()
    top, distinct = facts
    assert top > 20 * 20_000 / distinct  # a power law
    again = hits.generate(0.02, tmp_path) / "hits.parquet"  # in one chunk: other values, the same shape
    assert duck.sql(f"select count(*) from '{again}'").fetchall() == [(20_000,)]


def test_page_views_are_the_same_again(tmp_path: Path) -> None:
    one, two, other = (hits.chunk(0, 500, 500, seed) for seed in (1, 1, 2))
    for name, values in one.items():
        assert list(map(str, values)) == list(map(str, two[name])), name
    assert list(map(str, one["url"])) != list(map(str, other["url"]))
    assert hits.generate(3e-6, tmp_path / "three") == tmp_path / "three"
    with pytest.raises(DataError, match="less than a row"):
        hits.generate(1e-7, tmp_path)


@pytest.mark.parametrize(("name", "scale"), [("ssb", 0.01), ("tpch", 0.01), ("clickbench-like", 0.001)])
def test_data_of_another_scale_is_refused(name: str, scale: float, tmp_path: Path) -> None:
    files = workloads.generate(name, scale, tmp_path)
    assert workloads.generate(name, scale, tmp_path) == files and all(path.exists() for path in files.values())
    with pytest.raises(DataError, match="is not of scale"):
        workloads.generate(name, 3 * scale, tmp_path)


def test_bounded_power_law() -> None:
    import numpy as np

    uniform = (np.arange(200_000) + 0.5) / 200_000
    for exponent in (0.8, 1.0, 1.2):
        counts = np.bincount(hits.zipf(uniform, 1000, exponent), minlength=1000)
        assert len(counts) == 1000 and counts[0] == counts.max()
        slope = math.log(counts[10:20].sum() / counts[100:200].sum() * 10) / math.log(10)
        assert slope == pytest.approx(exponent, abs=0.05)


# --- spread -----------------------------------------------------------------------------------------------------------


def test_interval_of_a_median() -> None:
    assert spread.median([3.0, 1.0, 2.0, 5.0, 4.0]) == Bounds(3.0, 1.0, 5.0)
    # P(fewer than 2 of 9 below the median) = 10/512, so from the 2nd to the 8th is sure by 96 %
    assert spread.median([float(n) for n in range(1, 10)]) == Bounds(5.0, 2.0, 8.0)
    assert spread.median([2.0]) == Bounds(2.0, 2.0, 2.0)


def test_interval_of_a_median_covers_it() -> None:
    """As often as said, of times with a long tail."""
    random.seed(5)
    found = [spread.median([random.lognormvariate(0.0, 1.0) for _ in range(15)]) for _ in range(2000)]
    share = sum(b.low <= 1.0 <= b.high for b in found) / len(found)
    assert 0.94 < share < 0.98  # 96.5 % by the binomial


def test_interval_of_a_ratio() -> None:
    exact = Bounds(2.0, 2.0, 2.0)
    assert spread.ratio(Bounds(4.0, 3.0, 6.0), exact) == pytest.approx((2.0, 1.5, 3.0))
    assert spread.ratio(exact, Bounds(4.0, 3.0, 6.0)) == pytest.approx((0.5, 1 / 3, 2 / 3))
    both = spread.ratio(Bounds(1.0, 0.9, 1.1), Bounds(1.0, 0.9, 1.1))
    assert 0.8 < both.low < 0.9 and 1.1 < both.high < 1.2  # wider than one, narrower than both ends together
    mean = spread.geometric_mean([Bounds(2.0, 1.0, 4.0)] * 4)
    assert mean == pytest.approx((2.0, 2.0 / 2**0.5, 2.0 * 2**0.5))


def test_half_range() -> None:
    assert spread.half_range([1.0]) == 0.0
    assert spread.half_range([1.0, 2.0, 3.0, 4.0, 100.0]) == 1.0


# --- measuring --------------------------------------------------------------------------------------------------------


class Stub:
    """An engine that gives what it is told."""

    def __init__(self, name: str, rows: list[tuple[Any, ...]] | Exception):
        self.name, self.rows = name, rows

    def run(self, sql: str, form: str = "rows") -> Any:
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows

    def columns(self, sql: str) -> list[str]:
        return ["a"]


def test_wrong_answers_are_not_timed() -> None:
    sql = "select a from t order by a"
    right, off = Stub("duckdb", [(1,), (2,)]), Stub("finequery", [(1,), (3,)])
    running: Any = [off, right, Stub("polars", ValueError("no")), Stub("datafusion", [(2,), (1,)])]
    found = results({}, engines={})
    run.measure(found, {"q": sql}, running, right, 0.0)
    assert "unlike duckdb's answer" in found.problem("finequery", "q") and not found.seconds("finequery", "q")
    assert found.problem("polars", "q") == "ValueError: no"
    assert "order" in found.problem("datafusion", "q")
    assert len(found.seconds("duckdb", "q")) == measure.LEAST_RUNS and found.engines["duckdb"]["q"]["rows"] == 2


def test_energy_is_measured_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery import energy

    calls = []

    def fake(again: Callable[[], object], telemetry: Any) -> energy.Energy:
        calls.append((again(), telemetry))
        return energy.Energy(0.1, 3, "a sensor", 0.5, 0.2, 5.0, 2.0)

    monkeypatch.setattr(energy, "measure", fake)
    one, found, telemetry = Stub("finequery", [(1,)]), results({}, engines={}), object()
    run.measure(found, {"q": "select 1"}, [one], one, 0.0, telemetry)  # type: ignore[arg-type, list-item]
    assert calls == [([(1,)], telemetry)] and found.engines["finequery"]["q"]["joules"] == 0.5
    found.machine |= {"threads_used": 1}
    assert "500" in report.show(found)


def test_other_types_are_loosely_the_same() -> None:
    from decimal import Decimal

    assert difference([(1.5, 2)], [(Decimal("1.50"), 2)], [], exact=False) is None
    assert difference([(1.5, 2)], [(Decimal("1.50"), 2)], [], exact=True)
    assert difference([(1.5, 3)], [(Decimal("1.50"), 2)], [], exact=False)
    cut, rounded = [("a", Decimal("0.050144"))], [("a", 0.0501446)]
    assert difference(cut, rounded, [1], exact=False) is None
    assert difference([("a", Decimal("0.050142"))], rounded, [1], exact=False)
    assert difference([("a", 0.050144)], rounded, [1], exact=False)  # floats have all their digits
    assert difference([(2,), (1,)], [(1,), (2,)], []) is None and difference([(2,), (1,)], [(1,), (2,)], [0])


# --- the command ------------------------------------------------------------------------------------------------------


def test_beside_other_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    options = ["--rows", "5000", "--only", "q01,q13", "--engines", "duckdb", "--seconds", "0", "--threads", "1"]
    assert main(["clickbench-like", *options, "--data", str(tmp_path / "data"), "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "geometric mean" in shown and "q13" in shown and "1 threads" in shown
    document = json.loads(file.read_text())
    assert document["suite"] == "clickbench-like" and document["scale"] == 0.005 and not document["simulated"]
    assert document["machine"]["cores"] and document["machine"]["threads_used"] == 1
    assert "load_average" in document["conditions"] and isinstance(document["conditions"]["warnings"], list)
    for engine in ("finequery", "duckdb"):
        entry = document["engines"][engine]["q13"]
        assert entry["rows"] == 10 and len(entry["seconds"]) >= measure.LEAST_RUNS and entry["first"] > 0
    assert main(["diff", str(file), str(file)]) == 0
    assert "0 faster, 0 slower, 2 same" in capsys.readouterr().out


def test_on_a_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["ssb", "--scale", "0.01", "--only", "q1.1,q2.1", "--json", str(tmp_path / "a.json")]
    assert main([*options, "--board", "agx-xavier:15W"]) == 0
    assert "simulated" in capsys.readouterr().out.splitlines()[0]
    found = record.read(tmp_path / "a.json")
    entry = found.engines["finequery"]["q2.1"]
    assert found.simulated and found.board == "agx-xavier:15W" and list(found.engines) == ["finequery"]
    assert entry["low"] < entry["seconds"][0] < entry["high"] and entry["joules"] > entry["idle_joules"] > 0
    resident = ["ssb", "--scale", "0.01", "--only", "q1.1", "--board", "h100", "--device", "gpu"]
    seconds = {}
    for cold in ((), ("--cold",)):
        assert main([*resident, *cold, "--json", str(tmp_path / "b.json")]) == 0
        seconds[cold] = record.read(tmp_path / "b.json").median("finequery", "q1.1")
    assert seconds["--cold",] > seconds[()]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "required: suite"),
        (["ssbb"], "invalid choice"),
        (["ssb", "--rows", "5"], "--rows is for clickbench-like"),
        (["ssb", "--scale", "0"], "no data of scale 0"),
        (["ssb", "--scale", "nan"], "no data of scale nan"),
        (["ssb", "--threads", "0"], "--threads must be 1 or more"),
        (["ssb", "--seconds", "-1"], "--seconds must be 0 or more"),
        (["ssb", "--engines", "sqlite"], 'no engine "sqlite"'),
        (["ssb", "--board", "agx-xavier", "--engines", "duckdb"], "are for this machine"),
        (["ssb", "--board", "agx-xavier", "--energy"], "is measured here"),
        (["ssb", "--cold"], "--cold is for a simulated --board"),
    ],
)
def test_refused_options(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_refused_before_data_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, said in (
        (["--only", "q9"], 'no query "q9"'),
        (["--board", "agx-xavie"], 'no board "agx-xavie"'),
        (["--board", "agx-xavier:1W"], 'no power mode "1W"'),
    ):
        assert main(["ssb", *options, "--data", str(tmp_path)]) == 1
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_engines_that_are_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(engines, "installed", list)
    with pytest.raises(SystemExit):
        main(["ssb", "--engines", "duckdb"])
    assert "duckdb is not installed" in capsys.readouterr().err


# --- diff -------------------------------------------------------------------------------------------------------------

STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0]


def slower(factor: float) -> list[float]:
    return [time * factor for time in STEADY]


def test_verdicts() -> None:
    before = results({"same": STEADY, "slow": STEADY, "fast": STEADY, "noisy": STEADY})
    noise = [0.7, 1.9, 1.2, 2.4, 0.6, 1.5, 1.3]
    after = results({"same": slower(1.01), "slow": slower(1.3), "fast": slower(0.5), "noisy": noise})
    (found,) = diff.differences(before, after)
    assert [diff.verdict(change.ratio) for change in found.changes] == ["same", "slower", "faster", "same"]
    assert diff.verdict(found.changes[0].ratio, least=0.0) == "same"  # within the spread
    shown = diff.show(before, after)
    assert "1 faster, 1 slower, 2 same" in shown and "geometric mean" in shown


def test_queries_in_one_file_alone() -> None:
    before = results({"a": STEADY, "b": STEADY})
    after = results({"a": STEADY, "c": STEADY})
    after.engines["finequery"]["b"] = {"problem": "unlike duckdb's answer: …\nmore"}
    after.engines["finequery"]["a"]["rows"] = 2
    (found,) = diff.differences(before, after)
    notes = {change.query: change.note for change in found.changes}
    assert notes == {"a": "rows: 1, then 2", "b": "not after: unlike duckdb's answer: …", "c": "not before"}
    assert [diff.worse(change) for change in found.changes] == [False, True, False]
    assert "not before" in diff.show(before, after)


def test_unlike_results_are_refused() -> None:
    before = results({"a": STEADY})
    for changes, said in (
        ({"suite": "tpch"}, "unlike suites"),
        ({"scale": 2.0}, "unlike scales"),
        ({"simulated": True, "board": "orin-nano"}, r"simulated \(orin-nano\)"),
    ):
        with pytest.raises(DataError, match=said):
            diff.check(before, results({"a": STEADY}, **changes))
    diff.check(before, results({"a": STEADY}))


def test_unlike_machines_are_warned_of() -> None:
    before = results({"a": STEADY}, conditions={"governor": "performance"})
    after = results({"a": STEADY}, conditions={"governor": "powersave"})
    before.machine |= {"load_average": [0.1, 0, 0]}
    after.machine |= {"cores": 4, "load_average": [3.0, 0, 0], "versions": {"duckdb": "3"}}
    after.conditions["warnings"] = ["3.0 of 2 cores were busy"]
    after.engines["duckdb"] = {}
    found = "\n".join(diff.warnings(before, after))
    for said in (
        "after: 3.0 of 2 cores",
        "finequery took turns, then finequery, duckdb",
        "cores was 2, then 4",
        "governor was performance",
        "load average was 0.1, then 3.0",
        "duckdb was 2",
    ):
        assert said in found
    assert not diff.warnings(before, before)


def test_what_another_engine_changed_by_is_the_machines() -> None:
    before, after = results({"a": STEADY}), results({"a": slower(1.5)})
    for one, factor in ((before, 1.0), (after, 1.5)):
        one.engines["duckdb"] = {"a": {"seconds": slower(factor), "rows": 1}}
    assert "the machine's doing. finequery over it: 1.00" in diff.show(before, after)


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    record.write(good, results({"a": STEADY}))
    assert record.read(good) == results({"a": STEADY})
    record.write(bad, results({"a": slower(2.0)}))
    assert main(["diff", str(good), str(bad)]) == 0 and main(["diff", str(good), str(bad), "--check"]) == 1
    assert main(["diff", str(good), str(good), "--check"]) == 0
    for text, said in (
        ("{", "is not JSON"),
        ("[1]", "has no results"),
        ('{"suite": "ssb"}', "has no results"),
        (good.read_text().replace('"version": 1', '"version": 99'), "a later version"),
    ):
        bad.write_text(text)
        with pytest.raises(FileError, match=said):
            record.read(bad)
    capsys.readouterr()
    assert main(["diff", str(good), str(tmp_path / "none.json")]) == 1
    assert "Can't read" in capsys.readouterr().err
