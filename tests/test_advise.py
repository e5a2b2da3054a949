"""``finequery advise``: boards for the user's own queries, and the interval of what is simulated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import finequery
from finequery import advise, simulation
from finequery.advise import Option, Target, main
from finequery.compare import work
from finequery.compare.simulate import Counted, counted
from finequery.errors import NotSupportedError, ProgrammingError
from finequery.jetson.board import load
from finequery.simulation import OnBoard

SQL = """select machine, avg(value) as mean, count(*) as readings from readings group by machine order by machine;
select count(*) as high from readings where value > 90"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings in three parts, and queries over them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("own")
    (folder / "readings").mkdir()
    for part in range(3):
        numbers = list(range(part * 50_000, part * 50_000 + 50_000))
        columns = {"machine": [n % 40 for n in numbers], "value": [n * 7 % 1000 / 10 for n in numbers]}
        pq.write_table(pa.table(columns), folder / "readings" / f"part-{part}.parquet")
    (folder / "q.sql").write_text(SQL)
    return folder


@pytest.fixture(scope="module")
def queries(folder: Path) -> list[Counted]:
    return counted(work.own([folder / "q.sql"], [f"readings={folder}/readings/*.parquet"]))


def parts(folder: Path) -> list[str]:
    return sorted(map(str, (folder / "readings").glob("*.parquet")))


# --- on a board -------------------------------------------------------------------------------------------------------


def test_a_query_on_a_board_takes_what_the_scheduler_says_there(queries: list[Counted], folder: Path) -> None:
    """The second run of a connection with that board, by another way."""
    with finequery.connect(board="agx-xavier", threads=2) as con:
        con.execute(f"create view readings as select * from '{folder}/readings/*.parquet'")
        for _ in range(2):
            shown = con.sql(SQL.partition(";")[0]).explain(analyze=True)
    said = re.search(r"Xavier \(32 GB\): ([\d.]+) (ms|us), simulated", shown)
    assert said is not None
    seconds = float(said[1]) * {"ms": 1e-3, "us": 1e-6}[said[2]]
    assert simulation.on(queries[0], load("agx-xavier")).seconds == pytest.approx(seconds, rel=0.05)


def test_numbers_of_a_board(queries: list[Counted]) -> None:
    found = simulation.on(queries[0], load("agx-xavier"))
    assert 0 < found.low < found.seconds < found.high and found.joules > found.idle_joules > 0
    assert simulation.on(queries[0], load("agx-xavier:10W")).seconds > found.seconds
    assert simulation.on(queries[0], load("agx-xavier"), device="cpu").devices == ("cpu",)
    with pytest.raises(NotSupportedError, match="has no GPU"):
        simulation.on(queries[0], load("reference"), device="gpu")
    json.dumps(found.numbers())


def test_columns_that_do_not_fit_are_copied(queries: list[Counted], monkeypatch: pytest.MonkeyPatch) -> None:
    """To a discrete GPU, for every query."""
    board = load("h100")
    kept = simulation.on(queries[0], board, device="gpu")
    monkeypatch.setattr(simulation, "USABLE", 0.0)
    copied = simulation.on(queries[0], board, device="gpu")
    assert kept.resident and not copied.resident and copied.seconds > kept.seconds
    assert simulation.on(queries[0], board, device="gpu", cold=True).seconds == copied.seconds


def test_stored_columns_count_once(queries: list[Counted]) -> None:
    one, both = simulation.stored(queries[1:]), simulation.stored(queries)
    assert 150_000 <= one < both <= 150_000 * 16 and simulation.stored([*queries, *queries]) == both


def test_validation_is_what_was_validated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers in the package are those of the results that are kept; if not, ``validate_simulator.py --kept``."""
    import validate_simulator

    kept = simulation.validation()
    assert 0 < kept.low < 1 < kept.high and kept.queries > 50 and kept.source
    monkeypatch.setattr(validate_simulator, "VALIDATION", tmp_path / "again.json")
    assert validate_simulator.main(["--kept", "--name", kept.results.removesuffix(".json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again == {name: getattr(kept, name) for name in again}


# --- verdicts ---------------------------------------------------------------------------------------------------------


def run(seconds: float, low: float, high: float, joules: float = 1.0) -> OnBoard:
    return OnBoard(seconds, low, high, joules, 0.1, 0.5, ("gpu",), True, "a model")


def option(*runs: OnBoard, fits: bool = True, board: str = "agx-xavier") -> Option:
    return Option(load(board), {f"q{n}": one for n, one in enumerate(runs)}, fits)


def test_the_worst_query_decides() -> None:
    found = option(run(1.0, 0.9, 1.1), run(4.0, 3.0, 6.0))
    verdicts = {most: found.verdict([Target("latency", most)]) for most in (7.0, 5.0, 3.5, 2.0)}
    assert verdicts == {7.0: "meets", 5.0: "likely", 3.5: "unlikely", 2.0: "misses"}
    assert found.worst("latency") == "q1" and found.margin(Target("latency", 8.0)) == 0.5
    assert found.margin(Target("latency", 2.0)) == -1.0
    assert option(run(1.0, 0.9, 1.1), fits=False).verdict([Target("latency", 7.0)]) == "too small"


def test_energy_is_as_uncertain_as_time() -> None:
    found = option(run(2.0, 1.0, 6.0, joules=10.0))
    assert found.amounts("energy") == (10.0, 5.0, 30.0)
    assert found.verdict([Target("energy", 31.0), Target("latency", 5.0)]) == "likely"


def test_boards_that_meet_come_first_and_of_these_the_cheapest(queries: list[Counted]) -> None:
    boards = advise.boards([])
    names = [board.name for board in boards]
    assert {"agx-xavier", "agx-xavier:15W", "orin-nano:7W", "h100"} <= set(names) and "host" not in names
    targets = [Target("latency", 1e-3)]
    found = advise.options(queries, boards, targets)
    order = [(advise.VERDICTS.index(one.verdict(targets)), one.usd) for one in found]
    assert order == sorted(order) and len(found) == len(names)
    assert [b.name for b in advise.boards(["agx-xavier:15W"])] == ["agx-xavier:15W"]
    assert len(advise.boards(["orin-nano"])) == 4


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("latency", "10ms", 0.01), ("latency", " 1.5 s", 1.5), ("latency", "20us", 2e-5), ("energy", "50mJ", 0.05)],
)
def test_amounts(kind: str, text: str, value: float) -> None:
    assert advise.amount(kind, text) == pytest.approx(value)


@pytest.mark.parametrize(("kind", "text"), [("latency", "10"), ("latency", "0ms"), ("latency", "-1ms"),
                                            ("latency", "5mJ"), ("energy", "5ms"), ("energy", "nan J")])  # fmt: skip
def test_no_amounts(kind: str, text: str) -> None:
    with pytest.raises(ProgrammingError, match=f"is no {kind}"):
        advise.amount(kind, text)


# --- the command ------------------------------------------------------------------------------------------------------


def test_own_queries_and_data(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files as a shell makes them of a pattern are the parts of one table."""
    own = ["--data", *parts(folder), "--queries", str(folder / "q.sql"), "--json", str(tmp_path / "out.json")]
    assert main([*own, "--latency", "10ms", "--energy", "1J", "--boards", "agx-xavier,h100"]) == 0
    shown = capsys.readouterr().out
    for said in (
        "2 queries",
        "simulated",
        "agx-xavier:15W",
        "latency left",
        "energy left",
        "The cheapest that",
        "90 %",
    ):
        assert said in shown
    document: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    assert document["simulated"] and document["targets"] == {"latency": 0.01, "energy": 1.0}
    boards = {one["board"]: one for one in document["boards"]}
    entry = boards["agx-xavier:15W"]
    assert set(entry["queries"]) == {"q-1", "q-2"} and entry["usd"] == 699.0 and entry["price_source"]
    assert entry["queries"]["q-1"]["low"] < entry["queries"]["q-1"]["seconds"] and entry["estimates"] > 0
    assert document["validation"]["queries"] > 50 and boards["h100"]["queries"]["q-1"]["resident"]


def test_a_target_that_nobody_meets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--data", *parts(folder), "--queries", str(folder / "q.sql")]
    assert main([*own, "--latency", "1us"]) == 0
    assert "No board is likely to meet 0.001 ms." in capsys.readouterr().out


def test_a_workload(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--suite", "ssb", "--scale", "0.01", "--only", "q1.1", "--energy", "1J", "--boards", "orin-nano"]) == 0
    assert "q1.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--suite", "ssb"], "a target is needed"),
        (["--latency", "1ms"], "either --queries of your own or a --suite"),
        (["--suite", "ssb", "--queries", "q.sql", "--latency", "1ms"], "either --queries"),
        (["--queries", "q.sql", "--scale", "2", "--latency", "1ms"], "--scale is of a --suite"),
        (["--suite", "sssb", "--latency", "1ms"], "invalid choice"),
    ],
)
def test_refused_options(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_refused_inputs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.sql").write_text("create table t as select 1")
    (tmp_path / "unknown.sql").write_text("select nothing from readings")
    (tmp_path / "table.sql").write_text("select 1 from other")
    good, data = str(folder / "q.sql"), parts(folder)
    for options, said in (
        (["--queries", good, "--data", *data, "--latency", "5"], '"5" is no latency'),
        (["--queries", good, "--data", *data, "--latency", "5s", "--boards", "xaver"], 'no board "xaver"'),
        (["--queries", good, "--data", *data, "--latency", "5s", "--only", "q-9"], 'no query "q-9"'),
        (["--queries", str(tmp_path / "none.sql"), "--latency", "5s"], "Can't read"),
        (["--queries", str(tmp_path / "bad.sql"), "--data", *data, "--latency", "5s"], "no query"),
        (["--queries", str(tmp_path / "unknown.sql"), "--data", *data, "--latency", "5s"], "nothing"),
        (["--queries", str(tmp_path / "table.sql"), "--data", *data, "--latency", "5s"], "other"),
        (["--queries", good, "--data", str(tmp_path / "none.parquet"), "--latency", "5s"], "no file"),
        (["--queries", good, "--data", good, "--latency", "5s"], "neither Parquet nor CSV"),
        (["--suite", "ssb", "--data", "a", "b", "--latency", "5s"], "the one folder"),
        (["--suite", "ssb", "--scale", "0", "--latency", "5s"], "above 0"),
    ):
        assert main(options) == 1, options
        assert said in capsys.readouterr().err, options


def test_files_of_unlike_columns_are_tables_of_their_own(folder: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("a", "b"):
        pq.write_table(pa.table({name: [1]}), tmp_path / f"{name}.parquet")
    (tmp_path / "q.sql").write_text("select a, b from a, b")
    found = work.own([tmp_path / "q.sql"], [str(tmp_path / f"{name}.parquet") for name in "ab"])
    assert set(found.tables) == {"a", "b"}
    assert set(work.own([folder / "q.sql"], parts(folder)).tables) == {"readings"}
    with pytest.raises(ProgrammingError, match="gives no name"):  # not all of the folder: each is a table, part-0 none
        work.own([folder / "q.sql"], parts(folder)[:2])
