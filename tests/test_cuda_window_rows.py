"""Window functions that choose rows: what they choose is fetched where they ran."""

from __future__ import annotations

from typing import Any

import pytest
from compare import assert_same

from finequery.operators import concat, take
from finequery.operators.cuda import take as on_gpu

CALLS = [
    "lag(s) over (order by i)",
    "lag(x, 2, i) over (partition by g order by i)",
    "lead(s, 1, 'none') over (partition by g order by i)",
    "first_value(x) over (partition by g order by i)",
    "nth_value(s, 2) over (partition by g order by i rows between 1 preceding and 1 following)",
    "max(s) over (partition by g order by i rows between 2 preceding and current row)",
]


@pytest.mark.parametrize("call", CALLS)
def test_fetched_on_the_gpu(call: str, con: Any, duck: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in (con, duck):
        engine.execute(
            "create table t as select i, i % 3 as g, case when i % 4 = 0 then null else i * 7 % 11 end as x, "
            "case when i % 5 = 0 then null else 'n' || (i * 5 % 13) end as s from range(60) r(i)"
        )
    con.execute("set device = 'gpu'")
    con.execute("set strict = true")
    for module in (take, concat):
        monkeypatch.setattr(module, "FEW_ROWS", 0)
    fetched: list[str] = []
    for name in ("take_items", "take_strings"):
        plain = getattr(on_gpu, name)
        monkeypatch.setattr(on_gpu, name, lambda *a, plain=plain, name=name: (fetched.append(name), plain(*a))[1])
    assert_same(con, duck, f"select i, {call} as v from t")
    assert fetched
