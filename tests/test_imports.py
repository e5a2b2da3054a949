"""What a program that uses FineQuery imports: each library when it is needed, and pandas where one asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Functions of text that Arrow or Python compute, over text with NULLs and without.
TEXTS = """
create table t as
  select i, 'abc' || i as s, case when i % 3 <> 1 then 'Ä' || i else null end as u, date '2020-01-01' + i as d,
         timestamp '2020-01-01 10:00:00' + to_hours(i) as ts, i * 0.5 as f, i % 2 = 0 as b
  from (select range::integer as i from range(2500));
select upper(s), lower(u), concat(s, '-', u), s || u, length(u), substring(u, 1, 2), split_part(s, 'b', 1) from t;
select regexp_replace(s, '[0-9]', 'x'), regexp_extract(u, '([0-9]+)', 1), regexp_matches(u, '1$') from t;
select position('c' in s), replace(u, '1', '22'), lpad(s, 9, '.'), u like '%1', u ilike 'ä%', trim(u) from t;
select i::varchar, d::varchar, ts::varchar, f::varchar, b::varchar, cast(substring(s, 4) as integer) from t;
select strftime(ts, '%Y-%m'), strftime(d, '%H'), dayname(d), date_trunc('hour', ts), age(ts, d::timestamp) from t;
select string_agg(u, ',' order by i), min(u), max(s), count(distinct u) from t group by b;
select u, count(*) from t group by u order by u desc limit 3;
select a.u from t a join t b on a.u = b.s || '' or a.s = b.u limit 1;
select case when i > 3 then u else s end, coalesce(u, s), u in ('Ä1', 'Ä3'), greatest(u, s) from t;
select s from t union select u from t order by 1 limit 2
"""


@pytest.mark.parametrize("text", [part.strip() for part in TEXTS.split(";")][1:], ids=lambda text: text[7:30])
def test_text_without_pandas(text: str) -> None:
    """Arrow's conversions of bare Python values import pandas, a quarter of a second in the first query."""
    made = TEXTS.partition(";")[0]
    code = f"import finequery, sys\ncon = finequery.connect()\ncon.execute({made!r})\ncon.sql({text!r}).fetchall()\n"
    code += "assert 'pyarrow' in sys.modules and 'pandas' not in sys.modules, 'pandas was imported'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-600:]
