-- One query a line: bound, checked, run by the reference interpreter and compared with DuckDB.
select * from t
select t.* from t, u where t.a = u.a
select * from t join u using (a)
select t.*, u.* from t join u using (a)
select * from t left join u using (a)
select a, t.a, u.a from t left join u using (a)
select * from t right join u using (a)
select a, t.a, u.a from t right join u using (a)
select * from t full join u using (a)
select a, t.a, u.a from t full join u using (a)
select * from t right join u on t.a = u.a
select * from t natural join u
select * from t natural full join u
select * from t natural left join w
select * from t semi join u using (a)
select * from t anti join u on t.a = u.a
select * from t cross join u
select * from t, u, w where t.a = u.a and t.b = w.k
select * from t join u on t.a = u.a join w on t.b = w.k and w.s = t.s
select * from t left join (u join w on u.a = w.k / 10) on t.a = u.a
select * from (t join u using (a)) left join w using (s)
select * from t join u using (a) join w using (s)
select * from t full join u using (a) full join (select k as a, s from w) w using (a)
select a from t full join u using (a) full join (select k as a, s from w) w using (a)
from t
from t where a = 2
from t select a, b
select * exclude (a, b) from t
select * exclude a from t
select * replace (a + 1 as a) from t
select * rename (a as z) from t
select t.* exclude (b) from t, u
select a as x, x + 1 as y from t
select a x from t where x = 2
select a + 1 as a from t where a > 1
select a + 1 as g, count(*) from t group by g order by g
select a, count(*) from t group by 1 order by 1
select a, sum(b), avg(d) from t group by all order by all
select a, sum(b) + a from t group by a
select a + 1, sum(b) from t group by a + 1 order by 1
select a, sum(b) s from t group by a having s > 10 order by s desc
select sum(b) s from t having sum(b) > 1000
select count(*) from t having count(*) > 100
select s, sum(d) filter (where a > 1) from t group by s order by s
select count(distinct s), count(distinct a), sum(distinct a) from t
select count(*), count(a), min(s), max(dt), avg(d), sum(d), sum(f) from t
select stddev(a), var_pop(b), bool_and(a > 0), bool_or(a > 2), any_value(s), first(a) from t
select a, b from t order by b desc, a
select a, b from t order by b desc nulls first, a nulls first
select a from t order by b, a
select a from t order by a + b, a desc nulls first
select -a as a from t order by a
select -a as a from t order by a + 0, b
select a as b from t order by b
select distinct a from t order by a
select distinct a from t order by a + 1
select distinct a, s from t order by s, a
select distinct on (a) a, b from t order by a, b
select distinct on (s) s, a, b from t order by s, a desc
select distinct on (a) * from t order by a, b
select a from t order by a limit 2
select a from t order by a limit 2 offset 1
select a from t order by a offset 3
select a from t order by a limit 1 + 1
select a from t order by 1 desc fetch first 2 rows only
select a from t order by t.a desc limit '1'
select a from t limit 0
select a from t union select a from u
select a from t union all select a from u
select a from t union all select a from u union all select k from w
select a from t union select a from u union all select k from w
select a from t intersect select a from u
select a from t except select a from u
select a from t intersect all select a from u
select a from t except all select a from u
select a from t union all select a from t except all select a from t
select a, s from t union select k, s from w order by a, s
select a from t union select a from u order by a desc limit 2
(select a from t order by a limit 2) union all (select a from u order by a desc limit 1)
select a from t union select c from u
select 1 union select 2.5
select null union select 'a'
select a from t union by name select a, c from u
select a, b from t union all by name select c, a from u
select a x from t union select 1 y order by x
select a from t union select a from u order by a + 1
with c as (select a from t) select * from c
with c(x) as (select a from t) select x from c where x > 1
with c as (select a, count(*) n from t group by a) select * from c c1, c c2 where c1.a = c2.a
with c as (select a from t), d as (select * from c) select * from d union all select * from c
with c as (select a from t), d as (select c1.a from c c1, c c2) select count(*) from d
with c as materialized (select a from t) select * from c
with a as (select 1 x) select * from (with a as (select 2 x) select * from a), a b
select * from (select a, b from t) x where x.a = 1
select * from (select a, a from t)
select q.y from (select a, b from t) q(x, y)
select * from (values (1, 'a'), (2.5, null)) v(x, y)
values (1, 'a'), (2, 'b')
select * from (from t select a) where a is not null
select a from t where a in (select a from u)
select a from t where a not in (select a from u)
select a from t where a not in (select a from u where a is not null)
select a from t where exists (select 1 from u where u.a = t.a)
select a from t where not exists (select 1 from u where u.a = t.a)
select a, (select c from u where u.a = t.a) from t
select a, (select max(c) from u where u.a = t.a) m from t order by m
select a, (select count(*) from u where u.a <= t.a) from t
select a, (select sum(e) + t.b from u) from t
select s, (select max(c) from u where u.a = t.a) from t group by s, a
select a, count(*), (select max(c) from u where u.a = t.a) from t group by a
select a from t where d > (select avg(d) from t t2 where t2.a = t.a)
select a from t where a = any (select a from u)
select a from t where a <> all (select a from u where a is not null)
select a in (select a from u) from t
select (select 1), (select null), exists (select 1 where false)
select * from t where (a, s) in ((1, 'x'), (2, 'y'))
select a, row_number() over (order by b, a) from t
select a, rank() over (partition by s order by a), dense_rank() over (order by a) from t
select a, lag(a) over (order by b, a), lead(a, 2, 0) over (order by b, a) from t
select a, sum(b) over (partition by s), count(*) over (order by a), avg(d) over () from t
select a, sum(b) over w, min(b) over (w) from t window w as (partition by a order by b)
select a, first_value(b) over (partition by a order by b), last_value(b) over (partition by a order by b) from t
select a, last_value(b) over (partition by a order by b rows between unbounded preceding and unbounded following) from t
select a, sum(b) over (order by a range between unbounded preceding and current row) from t
select a, sum(count(*)) over () from t group by a
select a, rank() over (order by sum(b) desc nulls last) r from t group by a order by r, a
select a, b from t qualify row_number() over (partition by a order by b) = 1
select a, row_number() over (partition by a order by b) rn from t qualify rn = 1
select s, sum(a) filter (where b > 10) over (partition by s), count(*) filter (where b > 10) over () from t
select a from t order by row_number() over (order by b desc, a)
select max(a) from t group by s order by sum(b), 1
select s from t group by s order by count(*) desc, s
select case when a > 1 then 'big' when a = 1 then 'one' end, case a when 1 then 'x' else s end from t
select a between 1 and 2, a not between 1 and 2, a in (1, 3), a in (1, null), a not in (1, null), a in (b, 1, 2) from t
select a / 2, -a, d * 2, d + 1, d - 0.5, d * d from t
select dt > '2020-01-15', dt = date '2020-02-01', dt between '2020-01-01' and '2020-12-31' from t
select cast(a as varchar), cast(d as integer), cast(d as double), a::decimal(10,2), try_cast(s as integer) from t
select not a = 1, a = 1 and b > 5 or s = 'x', not (a = 1 or b = 20) from t
select * from t where a = 1 or s = 'x' and b is null
select 1, 'x', null, true, 1.5, 1e3, date '2020-01-01'
select sum(a) from t where false
select a from t where null
select count_if(a > 1), sum(a > 1) from t
select t.a from t join u on t.a < u.a and u.e > 1
select * from t left join u on t.a = u.a and u.e > 2
select * from t full join u on t.a = u.a and t.b > 10
select * from t left join u on true where u.a = 1
select count(*) from t, u
select * from t x, t y where x.a = y.a and x.b < y.b
select main.t.a from main.t
select sum(a), s from t group by s having max(b) > 10 order by s desc nulls last
select * from t where a = (select min(a) from u)
select a + (select max(a) from u) from t
select a from t group by a having count(*) > (select 1)
select a, sum(b) from t group by a having sum(b) > (select sum(e) from u where u.a = t.a)
select count(*) from (select distinct a, s from t)
select x + 1 from (select a + b as x from t where a is not null)
select * from (select null as n, a from t) where n is null
select distinct null from t
select null, count(*) from t group by 1
select 'k', count(*) from t group by 1
select 1 from t group by a
select a, a + 1 as a1, a1 * 2 from t
select a from t where b in (10, 20) and s in ('x') order by a
select max(a) as a from t where a > 1
select sum(a) as a from t group by a order by a
select a as k, sum(b) as a from t group by a
select a from (select a from t union select a from u) order by a
select s, a from t group by s, a order by s, a
select count(*) from t group by ()
select a, (select b from t t2 where t2.a = t.a and t2.b is not null limit 1) from t
select * from t order by s desc, b limit 3
select a, b as a from t
select * from u u1 join u u2 using (a) join u u3 using (a)
select * from t where s = 'x' and exists (select 1 from w where w.s = t.s and exists (select 1 from u where u.a = t.a))
select (select (select t.a)) from t
select A, t.S from t
select -a as b, b from t group by a, b having b > 15
select -b as b from t group by b having b > 15
select -b as b, row_number() over () as r from t qualify b > 15
select a, sum(b) as b from t group by a having b > 10 and sum(b) < 45
select count(*) from t group by ()
select a from t, (select 1 as one) where one = 1
with c as (select a from t) select a from u where a in (select a from c) and exists (select 1 from c where c.a = u.a)
select a, (with c as (select u.c from u where u.a = t.a) select max(c) from c) as m from t
select $$it's$$ as x
select t.a, x.c from t left join (select a, c from u where e > 1) x using (a)
select count_if(a > 1), count_if(b > 1) filter (where a > 5) from t
select count_if(a > 1) from t where false
select count_if(null::boolean) from t
