-- range and generate_series.
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
select * from generate_series(1, 5);
select * from range(3);
select * from range(1, 10, 3) as r(i);
select generate_series from generate_series(5, 1, -2);
select * from generate_series(timestamp '2024-01-01', timestamp '2024-01-02', interval 6 hour);
select * from range(date '2024-01-01', date '2024-01-05', interval 1 day) r(d);
select t.a, i from t, range(2) r(i) order by 1, 2;
-- since DuckDB 2
select * from range(5) a, range(2) b order by all;
select sum(range) from range(1000000);
select * from generate_series(1, 0);
select * from generate_series(1, null);
-- since DuckDB 2
select * from range('5');
select * from range(1.5);
select * from generate_series(1,5,0);
-- since DuckDB 2
select g from range(2) g;
-- since DuckDB 2
select g.g from range(2) g;
select range.range from range(2);
select * from generate_series(timestamp '2024-05-31', timestamp '2024-01-01', interval '-1 month');
select * from generate_series(date '2024-01-31', date '2024-05-01', interval 1 month);
select * from range(timestamp '2024-05-31', timestamp '2024-06-01');
select typeof(range) from range(1);
select s.ts, count(r.v) from generate_series(timestamp '2024-01-01', timestamp '2024-01-01 00:30:00', interval 10 minute) s(ts) left join r on time_bucket(interval 10 minute, r.ts) = s.ts group by all order by all;
