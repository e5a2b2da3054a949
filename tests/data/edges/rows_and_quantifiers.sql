-- Comparisons of rows, ANY and ALL.
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
select a from t where (a, b) = (1, 10);
select a from t where (a, b) in (select a, b from t where p) order by a;
-- since DuckDB 2
select a from t where (a, b) not in (select a, b from t where p) order by a;
select a from t where (a, b) < (2, 20) order by a;
select a from t where (a, b) <> (1, 10) order by a;
select a from t where (g, s) in (('u','abc'),('v','x')) order by a;
select a from t where a > any (select b/10 from t where b < 30) order by a;
select a from t where a >= all (select b/10 from t where b < 60) order by a;
select a from t where a < any (select b from t where false) order by a;
select a from t where a = all (select 1) order by a;
select a from t where a <> any (select 1) order by a;
select a from t o where a <= all (select i.a from t i where i.g = o.g) order by a;
select greatest(a, b), least(a, b, 3), concat_ws('-', s, g), split_part(s, ' ', 2) from t order by a;
select a between 1 and 3, a in (1,2), a is distinct from b, a is not null, p is true, p is not true, p is unknown, a isnull, a notnull from t order by a;
select 10 in (select b from t);
-- since DuckDB 2
select gamma(0), gamma(-1), lgamma(0), gamma(0.5), gamma(171.9), even(-2.5), cot(0), log(2,0), log(0, 2), log(2, -1), log(1,2), atanh(1), acosh(1), acosh(0.5);
select (1,2)=(1,null), (1,2)=(2,null), (1,null)<(2,1), (1,null)<(1,2), (1,null)=(1,null), (1,null)<=(1,null), (null,1)>(1,1);
select (1,2) in ((1,null)), (1,2) in ((1,2),(3,4)), (1,2) not in ((1,null));
-- since DuckDB 2
select (1,null) in (select 1,2), (1,2) in (select 1,null), (1,2) not in (select 1,null), (1,2) in (select 2,null), (null,2) in (select 1,3);
select (1,2)=(1,2,3);
select (1,2) in (select 1);
select 1 = any (select 1,2);
select (1,2) = any (select 1,2), (1,2) <> all (select 1,2);
select 1 > all (select null), 1 > any (select null), 1 > all (select 1 where false), null > all (select 1 where false), null > any (select 1);
select 2 > all (select * from (values (1),(null))), 1 > all (select * from (values (1),(null))), 2 > any (select * from (values (1),(null))), 0 > any (select * from (values (1),(null))), 1 = all (select * from (values (1),(null))), 1 <> any (select * from (values (1),(null))), 1 <> any (select * from (values (1),(1)));
select a, a > all (select i.b / 10 from t i where i.g = t.g), a <> any (select i.a from t i where i.g = t.g) from t order by a;
select a from t where not a >= any (select i.a from t i where i.b > 20) order by a;
select a from t where (g, a) in (select g, max(a) from t group by g) order by a;
-- since DuckDB 2
select a from t where (g, a) not in (select g, max(a) from t where g is not null group by g) order by a;
