"""Numbers of distinct values: against Python, with one table and with one for each part, and in queries."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from compare import assert_same
from conftest import connect, connect_duckdb

from finequery.operators import distinct
from finequery.operators.build import padded
from finequery.operators.lower import NONE
from finequery.operators.pool import get_pool


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("one_table", [1, 1 << 15])
@pytest.mark.parametrize(("rows", "different"), [(0, 1), (1, 1), (5_000, 3), (70_000, 40_000), (70_000, 200_000)])
def test_numbers(rows: int, different: int, one_table: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "ONE_TABLE", one_table)
    rng = np.random.default_rng(rows + different)
    picked = rng.integers(0, different, rows).tolist()
    texts = [b"" if n == 0 else b"\0" * (n % 3) + f"ä{n}".encode() * (n % 5 + 1) for n in picked]
    valid = rng.random(rows) < 0.9
    offsets = np.array([0, *accumulate(map(len, texts))], np.int64)
    chars = padded(int(offsets[-1]) + 8, np.uint8)
    chars[: offsets[-1]] = np.frombuffer(b"".join(texts), np.uint8)
    for validity in (None, np.packbits(np.append(valid, np.zeros(64, bool)), bitorder="little")):
        known: dict[bytes, int] = {}
        kept = [True] * rows if validity is None else valid.tolist()
        expected = [known.setdefault(text, len(known)) if ok else NONE for text, ok in zip(texts, kept)]
        numbers, firsts, hashes = distinct.number_texts(offsets, chars, validity, rows, get_pool(threads))
        assert numbers[:rows].tolist() == expected
        assert [texts[row] for row in firsts.tolist()] == list(known)
        assert len(set(hashes[firsts].tolist())) == len(known)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("one_table", [1, 1 << 15])
@pytest.mark.parametrize("rows", [0, 1, 5_000, 70_000])
def test_keys(rows: int, one_table: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "ONE_TABLE", one_table)
    rng = np.random.default_rng(rows)
    for keys in (rng.integers(-(2**63), 2**63 - 1, rows), rng.integers(0, rows // 2 + 1, rows), np.zeros(rows, int)):
        known: dict[int, int] = {}
        expected = [known.setdefault(key, len(known)) for key in keys.tolist()]
        numbers, firsts = distinct.number_keys(keys.astype(np.int64), get_pool(threads))
        assert numbers[:rows].tolist() == expected
        assert keys[firsts].tolist() == list(known)


WIDE = "(i * 7919 % 60000) * 1000000007000::bigint - 9000000000000000"


@pytest.mark.parametrize(
    "query",
    [
        "select s, count(*), min(i) from t group by s",
        "select s, i % 3 as m, count(*), sum(i) from t group by s, m",
        "select count(distinct s) from t",
        "select a.s, count(*) from t a join u b on a.s = b.s group by a.s",
        f"select {WIDE} as w, i % 7 as m, s, count(*), min(i) from t group by w, m, s",
        f"select {WIDE} as w, (i % 9973) * 300000000::bigint as v, i % 2 = 0 as b, count(*) from t group by w, v, b",
        "select s, case when i % 5 > 0 then i / 7.0 end as d, count(*) from t group by s, d",
        "select count(*) from t where s not in (select s from u where s is not null)",
    ],
)
def test_queries(query: str) -> None:
    """Texts of which too many are different for a dictionary."""
    con, duck = connect(), connect_duckdb()
    text = "case when i % 11 = 0 then null when i % 50 = 1 then '' else 'Gerät-' || (i * 7919) % 60000 end"
    for engine in (con, duck):
        engine.execute(f"create table t as select i, {text} as s from (select range as i from range(150000)) r")
        engine.execute("create table u as select s from t where i % 4 = 0")
    assert_same(con, duck, query)
