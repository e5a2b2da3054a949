-- GROUPING SETS, ROLLUP, CUBE and grouping().
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
select g, a, sum(b) from t group by grouping sets ((g, a), (g), ()) order by all;
select g, p, count(*), grouping(g), grouping_id(g, p) from t group by rollup (g, p) order by all;
select g, p, sum(a) from t group by cube (g, p) order by all;
select g, p, sum(a) from t group by g, rollup (p) order by all;
select g, count(distinct a), sum(a) from t group by rollup (g) having sum(a) > 3 order by all;
select g, median(a), string_agg(s, ',' order by a) from t group by rollup(g) order by g nulls last, 2;
select p, g, grouping(p, g), median(a), count(distinct b) from t group by cube(p, g) order by all;
select grouping(a) from t group by rollup(g);
select g, grouping(g) from t where grouping(g) = 0 group by g;
select grouping(g) from t group by g order by 1;
select a, count(*) from t group by grouping sets (a, a, rollup(a)) order by all;
select coalesce(g, 'all') x, sum(a) from t group by rollup(x) order by all;
select g, p, sum(a) s, rank() over (partition by grouping(g) order by sum(a)) from t group by rollup(g, p) order by all;
select (select sum(i.a) from t i where i.g = o.g group by rollup(i.g) order by 1 limit 1) from t o order by 1;
select upper(g), count(*) from t group by cube (upper(g)) order by all;
select distinct g from t group by rollup(g, p) order by all;
