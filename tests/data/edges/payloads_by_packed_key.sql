create table x as select * from (values (0), (1), (2), (3), (4), (5), (6)) v(i);
create table y as select a.i + 7 * b.i + 49 * c.i as i from x a, x b, x c;
create table r as select i, 'name' || i as s, i * 100000000000000000000::hugeint as h, (i * 1.25)::decimal(9,2) as d from y;
create table b as select i::tinyint as p, 'n' || (i % 3) as q, 'name' || (4 - i) as s, i * 200000000000000000000::hugeint as h, (i * 2.5)::decimal(9,2) as d from x where i < 5;
select r.i, b.p, b.q from r join b on r.h = b.h;
select r.i, b.p, b.q from r join b on r.d = b.d;
select r.i, b.p, b.q from r join b on r.s || r.s = b.s || b.s;
select r.i, b.p, b.q from r join b on r.i is not distinct from b.p;
select b.q, count(*), sum(b.p), min(r.i) from r join b on r.h = b.h group by b.q;
