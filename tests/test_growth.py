"""Queries over more rows than there are (finequery/growth.py)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finequery import simulation
from finequery.advise import main
from finequery.compare import work
from finequery.compare.simulate import counted
from finequery.compare.work import Work
from finequery.errors import DataError, ProgrammingError
from finequery.growth import continued, grow
from finequery.jetson.board import load
from finequery.perfmodel.features import Features
from finequery.planner.stages import Part

QUERIES = """select machine, avg(value) as mean from readings group by machine order by machine;
select kind, count(*) as n from readings join machines using (machine) where value < 300 group by kind;
select day, count(distinct machine) as machines from readings group by day order by machines desc limit 3"""


def data(folder: Path, rows: int) -> Work:
    """Readings of 200 machines, each at a day of its own number: days grow with the rows, machines do not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(exist_ok=True)
    numbers = range(rows)
    columns = {
        "machine": [n * 7919 % 200 for n in numbers],
        "value": [n * 31 % 1000 for n in numbers],
        "day": [n * 12_289 % (rows // 20) for n in numbers],
    }
    pq.write_table(pa.table(columns), folder / "readings.parquet")
    machines = {"machine": list(range(200)), "kind": [n % 9 for n in range(200)]}
    pq.write_table(pa.table(machines), folder / "machines.parquet")
    (folder / "q.sql").write_text(QUERIES)
    return work.own([folder / "q.sql"], [str(folder / f"{name}.parquet") for name in ("readings", "machines")])


def part(rows: float, groups: float, kind: str = "aggregate") -> Part:
    info: Any = SimpleNamespace(after=())
    return Part(info, (Features(kind, rows=rows, rows_out=groups, groups=groups, table_bytes=8 * groups),))


def test_numbers_grow_by_their_power() -> None:
    (found,) = continued([part(1e6, 100.0)], [part(2e6, 100.0)], 2.0, 4.0)
    assert found.features[0].rows == 8e6 and found.features[0].groups == 100.0
    (found,) = continued([part(1e6, 1000.0)], [part(4e6, 2000.0)], 4.0, 4.0)
    assert found.features[0].groups == pytest.approx(4000.0)  # the square root
    (found,) = continued([part(1e6, 500.0)], [part(2e6, 400.0)], 2.0, 2.0)  # never fewer
    assert found.features[0].groups == 400.0
    (found,) = continued([part(1e6, 10.0)], [part(2e6, 1e4)], 2.0, 2.0)  # and in proportion at the most
    assert found.features[0].groups == 2e4


def test_plans_of_another_form_grow_in_proportion() -> None:
    (found,) = continued([part(1e6, 100.0, "sort")], [part(2e6, 100.0)], 2.0, 4.0)
    assert found.features[0].rows == 8e6 and found.features[0].groups == 100.0  # few stay few


def test_what_is_foreseen_comes_true(tmp_path: Path) -> None:
    """Four times the rows, foreseen from a part and counted."""
    small, large = data(tmp_path / "small", 100_000), data(tmp_path / "large", 400_000)
    grown, board = grow(small, 400_000), load("agx-xavier")
    assert grown.table == "readings" and grown.times == 4.0
    for place, query in enumerate(counted(large)):
        foreseen, real = grown.on(place, board, "latency"), simulation.on(query, board)
        assert foreseen.low < real.seconds < foreseen.high
        assert foreseen.seconds == pytest.approx(real.seconds, rel=0.25), query.name
        assert foreseen.high / foreseen.seconds >= 0.999 * real.high / real.seconds  # never surer than what ran
    assert grown.size(range(3)) == pytest.approx(simulation.stored(counted(large)), rel=0.25)


def test_refused_growth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = data(tmp_path, 20_000)
    for rows, said in ((19_999, "are fewer"), (320_001, "too many more")):
        with pytest.raises(DataError, match=said):
            grow(own, rows)
    with pytest.raises(DataError, match="too few"):
        grow(data(tmp_path / "few", 2_000), 4_000)
    with pytest.raises(ProgrammingError, match="no table that could grow"):
        grow(Work("own", 1.0, {"q": "select 1"}, {}), 10)
    with pytest.raises(SystemExit):
        main(["--suite", "ssb", "--latency", "1ms", "--scale-to", "10"])
    assert "a --suite has a --scale" in capsys.readouterr().err


def test_the_command_says_what_is_foreseen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data(tmp_path, 20_000)
    files = [str(tmp_path / f"{name}.parquet") for name in ("readings", "machines")]
    options = ["--queries", str(tmp_path / "q.sql"), "--data", *files, "--latency", "1s", "--boards", "orin-nano"]
    seconds = {}
    for more in ([], ["--scale-to", "200_000"]):
        assert main([*options, *more, "--json", str(tmp_path / "out.json")]) == 0
        document = json.loads((tmp_path / "out.json").read_text())
        seconds[len(more)] = document["boards"][0]["queries"]["q-1"]["seconds"]
    assert 'Foreseen for 200,000 rows of "readings", which has 20,000' in capsys.readouterr().out
    assert document["foreseen"] == {"table": "readings", "rows": 20_000, "times": 10.0} and seconds[2] > seconds[0]
