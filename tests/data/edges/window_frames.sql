-- Frames that move with the row, IGNORE NULLS, and the other window functions.
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
select a, sum(a) over (order by a rows between 1 preceding and 1 following) from t order by a;
select a, sum(x) over (order by a rows between 2 preceding and current row) from t order by a;
select a, avg(x) over (partition by g order by a rows between 1 preceding and current row) from t order by a;
select a, min(s) over (order by a rows between 1 preceding and 1 following), max(x) over (order by a rows between unbounded preceding and current row) from t order by a;
select a, count(b) over (order by a rows between current row and unbounded following) from t order by a;
select a, first_value(s) over (order by a rows between 1 following and 2 following), last_value(s) over (order by a rows between 1 following and 2 following) from t order by a;
select a, nth_value(s, 2) over (order by a) from t order by a;
select a, nth_value(s, 2) over (order by a rows between 1 preceding and 1 following) from t order by a;
select a, sum(a) over (order by ts range between interval 1 day preceding and current row) from t order by a;
select a, sum(a) over (order by a range between 2 preceding and 1 following) from t order by a;
select a, sum(a) over (order by x range between 1.5 preceding and current row) from t order by a;
select a, sum(a) over (order by a desc range between 2 preceding and 1 following) from t order by a;
select a, sum(a) over (order by b range between 10 preceding and 10 following) from t order by a;
select a, sum(a) over (order by b groups between 1 preceding and current row) from t order by a;
select a, sum(n) over (order by a rows between 1 preceding and current row), sum(big) over (order by a rows between 1 preceding and current row) from t order by a;
select a, ntile(3) over (order by a), percent_rank() over (order by b), cume_dist() over (order by b) from t order by a;
select a, row_number() over w, sum(a) over w from t window w as (partition by g order by a) order by a;
select a, sum(a) over (w rows between 1 preceding and current row) from t window w as (partition by g order by a) order by a;
select g, a from t qualify row_number() over (partition by g order by a desc) = 1 order by a;
select a, last_value(s ignore nulls) over (order by a) from t order by a;
select a, first_value(s ignore nulls) over (order by a) from t order by a;
select a, lag(a, b) over (order by a) from t order by a;
select a, rank() over (order by b desc nulls last) from t order by 1;
select sum(a) over () / count(*) over () from t;
select g, sum(sum(a)) over (order by g) from t group by g order by g;
select g, median(a) m from t group by g qualify row_number() over (order by median(a)) <= 2 order by g;
select a, sum(a) over (order by ts range between interval 1 month preceding and interval 1 day following) from t order by a;
select a, sum(a) over (order by d range between 31 preceding and current row) from t order by a;
select a, count(*) over (order by d desc range between interval 1 month preceding and current row) from t order by a;
select a, count(*) over (order by b nulls first range between 10 preceding and 10 following) from t order by a;
select a, count(*) over (partition by g order by b range between unbounded preceding and 10 following) from t order by a;
select a, sum(x) over (order by n range between 1.5 preceding and 1.5 following) from t order by a;
select a, min(n) over (order by a rows between 2 following and 3 following), max(s) over (order by a rows between 3 preceding and 1 preceding) from t order by a;
select a, avg(n) over (order by a rows 2 preceding), avg(a) over (order by a rows between current row and current row) from t order by a;
select a, sum(a) over (order by b groups between 1 preceding and 1 following), sum(a) over (order by b groups current row) from t order by a;
select a, sum(a) over (order by b rows between 1 following and 1 preceding) from t order by a;
-- since DuckDB 2
select a, sum(a) over (order by b rows between -1 preceding and current row) from t order by a;
select a, sum(a) over (order by a, b range between 1 preceding and current row) from t order by a;
select a, sum(a) over (range between 1 preceding and current row) from t order by a;
select a, last_value(b ignore nulls) over (partition by g order by a rows between unbounded preceding and 1 preceding) from t order by a;
select a, nth_value(s, 2 ignore nulls) over (order by a), nth_value(s, 0) over (order by a), nth_value(s, a) over (order by a) from t order by a;
select a, any_value(s) over (order by a desc), first(s) over (order by a), last(s) over (order by a) from t order by a;
select a, ntile(2) over (partition by g order by a), ntile(100) over (order by a), percent_rank() over (partition by g order by a) from t order by a;
select a, count_if(p) over (order by a), sum(a) filter (where p) over (order by a rows between 1 preceding and 1 following) from t order by a;
select a, sum(big) over (order by a rows between 3 preceding and current row), sum(big * 1000) over (order by a rows between 3 preceding and current row) from t order by a;
select g, sum(sum(a)) over (order by g rows between 1 preceding and current row) from t group by g order by g;
select a, row_number() over (order by a rows between 1 preceding and current row), rank() over (order by b rows unbounded preceding), lag(a) over (order by a rows between current row and current row) from t order by a;
select a, sum(x) over (order by a rows between 1 preceding and 1 following) from (select a, case when a = 3 then 'nan'::double when a = 5 then 'inf' else x end x from t) order by a;
select a, sum(x::float) over (order by a rows between 1 preceding and 1 following), avg(x::float) over (order by a rows between 1 preceding and 1 following) from t order by a;
select a, lead(a, 2, 0) over (order by a), lag(a, b // 10) over (order by a) from t order by a;
select a, count(*) over w, sum(a) over (w rows between 1 preceding and current row) from t window w as (partition by g order by a) order by a;
select a, sum(a) over (order by p rows between 1 preceding and current row) from t where false;
