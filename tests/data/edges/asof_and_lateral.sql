-- ASOF joins, and subqueries in FROM that read what stands beside them.
create table t(g varchar, a integer, b integer, x double, s varchar, d date, ts timestamp, p boolean, n decimal(10,2), big bigint);
insert into t values
 ('u',1,10,1.5,'abc','2024-01-31','2024-01-31 10:20:30.5',true,1.25,100),
 ('u',2,20,-2.5,'Hello World','2024-02-29','2024-02-29 23:59:59',false,2.50,200),
 ('v',3,NULL,3.25,NULL,NULL,NULL,NULL,NULL,NULL),
 ('v',4,40,NULL,'äöü€','2023-12-25','2023-12-25 00:00:00.123456',true,-7.75,-5),
 ('w',5,50,0.0,'','1969-07-20','1969-07-20 20:17:40',false,0.00,9007199254740993),
 ('u',6,10,1.5,'abc','2024-01-31','2024-01-31 10:25:00',true,1.25,7),
 (NULL,7,70,8.0,'zz top','2000-01-01','2000-01-01 12:00:00',NULL,99.99,8);
create table r(id integer, ts timestamp, v double);
insert into r values (1,'2024-01-01 00:00:00',1.0),(1,'2024-01-01 00:10:00',2.0),(2,'2024-01-01 00:05:00',3.0),(2,'2024-01-01 00:20:00',NULL);
create table q(id integer, ts timestamp);
insert into q values (1,'2024-01-01 00:07:00'),(1,'2024-01-01 00:10:00'),(2,'2024-01-01 00:01:00'),(2,'2024-01-01 00:30:00'),(3,'2024-01-01 00:30:00'),(NULL,'2024-01-01 00:30:00');
select t.a, l.m from t, lateral (select max(i.a) as m from t i where i.g = t.g) l order by 1;
select t.a, l.m from t left join lateral (select i.a as m from t i where i.g = t.g order by i.a desc limit 1) l on true order by 1;
select t.a, l.c from t, (select t.a + 1 as c) l order by 1;
select t.a, l.m from t cross join lateral (select i.a as m from t i where i.g = t.g and i.a < t.a) l order by 1, 2;
select q.id, q.ts, r.v from q asof join r on q.id = r.id and q.ts >= r.ts order by all;
select q.id, q.ts, r.v from q asof left join r on q.id = r.id and q.ts >= r.ts order by all;
select * from q asof join r using (id, ts) order by all;
select q.id, q.ts, r.v from q asof left join r on q.id = r.id and q.ts > r.ts order by all;
select q.id, q.ts, r.v from q asof left join r on q.id = r.id and q.ts <= r.ts order by all;
select q.id, q.ts, r.v from q asof join r on q.ts >= r.ts order by all;
select q.id, q.ts, r.v, r.ts from q left join r on q.id=r.id asof left join r r2 on q.id = r2.id and q.ts >= r2.ts order by all;
select q.*, r.* from q asof join r using (id, ts) order by all;
select q.id, r.v, count(*) from q asof join r on r.ts < q.ts and r.id = q.id group by all order by all;
select q.id from q asof join r on q.id = r.id;
select q.id from q asof join r on q.id = r.id and q.ts > r.ts and q.ts > r.ts;
select a.id, b.v from (select * from q where id > 1) a asof left join (select * from r where v is not null) b on a.id = b.id and a.ts >= b.ts order by all;
select t.a, l.c, m.d from t, lateral (select t.a + 1 as c) l, lateral (select l.c * 2 as d) m order by 1;
select t.a, l.c, m.d from t join lateral (select t.a + 1 as c) l on l.c > 3 join lateral (select l.c * 2 as d where l.c < 7) m on true order by 1;
select t.a, l.b from t left join lateral (select b from t i where i.a < t.a order by b desc limit 2) l on l.b > 10 order by 1, 2;
select t.a, l.s from t, (select sum(i.a) over (order by i.a) s from t i where i.g = t.g) l order by 1, 2;
select t.a, l.n from t, lateral (select count(*) n from t i where i.g = t.g and i.a > t.a) l order by 1;
select t.a, l.n from t, lateral (select t.a n union all select t.b) l order by 1,2;
select t.a, l.n from t, lateral (values (t.a),(t.b)) l(n) order by 1,2;
select t.a, q.id, l.n from t, q join lateral (select t.a + q.id n) l on true order by 1,2;
select t.a from t full join lateral (select t.a) l on true;
select t.a, l.m from t cross join lateral (select median(i.a) m from t i where i.g = t.g) l order by 1;
select t.a, l.g from t, lateral (select distinct i.g from t i where i.a >= t.a) l order by 1,2;
select count(*) from t, lateral (select 1 where t.a > 3) l;
select t.a, x.y from t left join lateral (select t.b y where t.b > 15) x on true order by 1;
select t.a, l.c from t left join lateral (select t.a c) l on l.c > 3 order by 1;
select t.a, l.c, l.d from t left join lateral (select t.a c, t.b d where t.b > 15) l on true order by 1;
select t.a, l.* from t, (select t.a, t.b) l order by 1;
select t.a, l.x from t left join (select t.a x union all select i.a from t i where i.b = t.b) l on l.x <> t.a order by all;
