-- Aggregates that need the rows of their group in an order.
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
select g, string_agg(s, ',') from t group by g order by g;
select g, string_agg(s, ',' order by a desc) from t group by g order by g;
select g, string_agg(distinct s, ',' order by s) from t group by g order by g;
select g, listagg(s, '-') from t group by g order by g;
select g, group_concat(s) from t group by g order by g;
select g, string_agg(s) from t group by g order by g;
select string_agg(g, '|' order by a) from t;
select g, median(a) from t group by g order by g;
select g, median(x) from t group by g order by g;
select g, median(n) from t group by g order by g;
select g, median(d) from t group by g order by g;
select g, quantile_cont(a, 0.25) from t group by g order by g;
select g, quantile_cont(n, 0.25) from t group by g order by g;
select g, quantile_disc(a, 0.25) from t group by g order by g;
select g, quantile(a, 0.3) from t group by g order by g;
select percentile_cont(0.5) within group (order by a) from t;
select g, mode(b) from t group by g order by g;
select g, mode(s) from t group by g order by g;
select g, any_value(s) from t group by g order by g;
select g, arg_min(s, a), arg_max(s, a) from t group by g order by g;
select g, max_by(s, x), min_by(s, x) from t group by g order by g;
select g, argmax(s, b) from t group by g order by g;
select g, first(a), last(a) from t group by g order by g;
select g, first(a order by b desc), last(a order by b) from t group by g order by g;
select g, any_value(s order by a desc) from t group by g order by g;
select g, sum(a) filter (where p), count(*) filter (where p), avg(x) filter (where a > 1), string_agg(s, ',') filter (where a>1) from t group by g order by g;
select g, corr(a, b) from t group by g order by g;
select g, covar_pop(a,b), covar_samp(a,b) from t group by g order by g;
select g, string_agg(distinct s, '-' order by s desc), string_agg(distinct s) filter (where a > 1) from t group by g order by g;
select string_agg(s, null) from t;
select string_agg(s, '') from t where a > 100;
select string_agg(a, ',' order by b desc nulls first, a) from t;
select string_agg(s, g) from t;
select p, median(x), quantile_cont(x, 0.3), quantile_disc(x, 0.9), count(*), sum(a), arg_max(s, a) filter (where a < 5) from t group by p order by p;
select quantile_cont(a, 1.5) from t;
select quantile_cont(a, b) from t;
select quantile_cont(s, 0.5) from t;
select quantile_disc(a,0.3e0),quantile_disc(a,0.3),quantile_disc(a,0.1),quantile_disc(a,0.99),quantile_disc(a,1),quantile_disc(a,1.0), quantile_disc(a, -0.3), quantile_cont(a, -0.25) from t;
select percentile_cont(0.3) within group (order by a desc), percentile_disc(0.3) within group (order by a), mode() within group (order by a) from t;
select median(ts), median(d), median(p), median(s), quantile_cont(ts, 0.33) from t;
select median(distinct b), count(distinct b), sum(distinct b), mode(b) from t;
select max(a) from t having median(a) > 3;
select g from t group by g order by median(a) desc, g nulls first;
select first(a order by b), first(a order by b desc nulls last), last(b order by a), any_value(b order by a desc), last(s), first(s) from t;
select first(a order by b) filter (where a > 3), last(a) filter (where a < 3), last(a order by b) filter (where a > 100) from t;
select g, (select median(i.a) from t i where i.g = o.g) from (select distinct g from t) o order by g;
select corr(a,b), covar_pop(a,b), covar_samp(a, x), regr_slope(a,b), regr_count(a,b), corr(a,a) from t;
select g, corr(a,b), covar_pop(a,b), covar_samp(a, x), regr_slope(a,b), regr_count(a,b) from t group by g order by g;
select corr(a, b) filter (where a > 2) from t;
select median(a), string_agg(s, ',') from t where false;
select g, median(a) from t where false group by g;
