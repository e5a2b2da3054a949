"""What Tab offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import finequery
from finequery.shell.completion import complete
from finequery.shell.keywords import KEYWORDS, TYPES
from finequery.shell.shell import Shell

Offers = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    con = finequery.connect()
    con.execute(
        "create table orders as select 1 as id, 2 as amount, date '2024-01-01' as order_date;"
        "create table items as select 1 as id, 'x' as \"Artikel Nr\", 3 as price;"
        "create view costly as select id, price as how_much from items"
    )
    shell = Shell(con)
    yield shell
    shell.close()


@pytest.fixture
def offers(shell: Shell) -> Offers:
    """Texts that are offered at the ``|`` of a text."""

    def offers(text: str) -> list[str]:
        position = text.index("|")
        text = text.replace("|", "", 1)
        found = complete(shell, text, position)
        assert all(0 <= c.start <= position for c in found)
        return [c.text for c in found]

    return offers


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("select * from |", ["costly", "items", "orders"]),
        ("select * from or|", ["orders"]),
        ("select * from items, or|", ["orders"]),
        ("select * from items join |", ["costly", "items", "orders"]),
        ("insert into it|", ["items"]),
        ("describe o|", ["orders"]),
        ("select am| from orders", ["amount"]),
        ("select o.| from orders o", ["id", "amount", "order_date"]),
        ("select o.| from orders as o join items on true", ["id", "amount", "order_date"]),
        ("select orders.a| from orders", ["amount"]),
        ("select x.| from (select id as one, amount two from orders) x", ["one", "two"]),
        ("with w as (select 1 as one, 2 as two) select w.| from w", ["one", "two"]),
        ("with w(a, b) as (select 1, 2), v as (select 3 as c) select | from v", ["c", "v"]),
        ("with w as (select 1) select * from |", ["w", "costly"]),
        ("select c.| from costly c", ["id", "how_much"]),
        ("select how| from costly", ["how_much"]),
        ("update orders set am|", ["amount"]),
        ("delete from orders where or|", ["order_date", "orders"]),
        ("select Ar| from items", ['"Artikel Nr"']),
        ('select "Art| from items', ['"Artikel Nr"']),
        ("select 1; select am| from orders; select 2", ["amount"]),
        ("select 'x;' < am| from orders", ["amount"]),
        ("select -- from items\n am| from orders", ["amount"]),
        ("set thr|", ["threads"]),
        ("show |", ["tables", "settings", "threads"]),
        ("select id::int|", ["integer", "interval"]),
        ("select main.| ", ["costly", "items", "orders"]),
        ("SEL|", ["SELECT"]),
        ("sel|", ["select"]),
        (".ti|", [".timer"]),
        (".timer o|", ["on", "off"]),
        (".mode j|", ["json"]),
        (".objective |", ["latency", "energy", "edp"]),
        (".schema i|", ["items"]),
        (".board agx-x|", ["agx-xavier"]),
        (".settings gpu_l|", ["gpu_load"]),
        (".help im|", ["import"]),
        (".timer on |", []),
        (".nonsense |", []),
        ("select 'it| from orders", []),
        ("select 1 -- or|", []),
        ("select 12|", []),
    ],
)
def test_offers(text: str, first: list[str], offers: Offers) -> None:
    found = offers(text)
    assert found[: len(first)] == first if first else not found


def test_columns_of_the_statement_come_first(offers: Offers) -> None:
    found = offers("select i| from items")
    assert found[:2] == ["id", "items"] and "ifnull(" in found and found.index("in") > found.index("ifnull(")
    assert "orders" not in offers("select i| from items")
    assert offers("select | from items")[:4] == ["id", '"Artikel Nr"', "price", "items"]


def test_parts_of_names(offers: Offers) -> None:
    found = offers("select date| from orders")
    assert "order_date" in found and found.index("order_date") > found.index("date_trunc(")


def test_functions_come_from_the_registry(offers: Offers, shell: Shell) -> None:
    from finequery.planner.functions import AGGREGATES, FUNCTIONS

    for name in [*FUNCTIONS, *AGGREGATES]:
        if name.isidentifier():
            assert name + "(" in offers(f"select {name[:3]}| from orders")
    (found,) = (c for c in complete(shell, "select sqr", 10) if c.text == "sqrt(")
    assert found.about == "(DOUBLE) -> DOUBLE"


def test_files(offers: Offers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a b.csv").write_text("pears,plums\n1,2\n")
    (tmp_path / ".hidden").write_text("")
    assert offers("select * from '|") == ["data/"]
    assert offers("select * from 'data/|'") == ["data/a b.csv"]
    assert offers(".read da|") == ["data/"]
    assert offers(".import data/|") == ["'data/a b.csv'"]
    assert offers(".import 'data/a b.csv' i|") == ["items"]
    assert offers(".import 'data/a|") == ["'data/a b.csv'"]
    assert offers(".open one.fq da|") == ["data/"]
    assert offers("select p| from 'data/a b.csv'")[:2] == ["pears", "plums"]
    assert offers("select x.| from read_csv('data/a b.csv') x") == ["pears", "plums"]
    assert offers("select * from 'nowhere/|") == []


@pytest.mark.parametrize(
    "text", ["select (((", "with", "with a as (", "from", "select .", ".", "'", '"', "join (", ")"]
)
def test_anything_may_stand_there(text: str, shell: Shell) -> None:
    for position in range(len(text) + 1):
        complete(shell, text, position)
        complete(shell, text + " from orders", position)


def test_types_are_types(shell: Shell) -> None:
    for name in TYPES:
        shell.run(f"select cast(null as {name})")
    assert len(set(KEYWORDS)) == len(KEYWORDS)
