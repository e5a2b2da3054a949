-- Scalar functions and operators.
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
select g, bool_and(p), bool_or(p) from t group by g order by g;
select g, sum(a order by b) from t group by g order by g;
select g, stddev(x), var_pop(a), stddev_pop(a) from t group by g order by g;
select g, count(distinct a), sum(distinct b) from t group by g order by g;
select a & 3, a | 8, xor(a, 5), ~a, a << 2, a >> 1 from t order by a;
select b & 6, bit_count(a) from t order by a;
select e'a\tb\nc', E'it\'s';
select gcd(a, 12), lcm(a, 4), cbrt(a), unicode(s), translate(s, 'abc', 'xy') from t order by a;
select regexp_full_match(s, 'a.c'), regexp_matches(s, '[A-Z]'), regexp_replace(s, 'o', '0', 'g'), regexp_extract(s, '([a-z]+) ([A-Z])', 2) from t order by a;
-- since DuckDB 2
select regexp_matches(s, 'HELLO', 'i'), s ~ 'abc', s !~ 'a', s similar to 'a.c' from t order by a;
select epoch(ts), epoch_ms(ts), epoch_us(ts), epoch_ns(ts), epoch(d) from t order by a;
select make_date(2024, a, 1), make_timestamp(2024, 1, a, 3, 4, 5.5) from t order by a;
select date_add(d, interval 1 month) from t order by a;
select strptime('2024-01-02', '%Y-%m-%d'), strftime(ts, '%Y/%m/%d %H:%M:%S'), try_strptime(s, '%Y') from t order by a;
select time_bucket(interval '10 minutes', ts), time_bucket(interval '1 month', d), time_bucket(interval '1 day', ts) from t order by a;
select time_bucket(interval '10 minutes', ts, interval '5 minutes'), time_bucket(interval '1 week', ts, timestamp '2024-01-03') from t order by a;
select time_bucket(interval '3 months', ts), time_bucket(interval '10 minutes', d) from t order by a;
select left(s, 2), right(s, 2), lpad(s, 5, '*'), rpad(s, 5, '*'), repeat(s, 2), reverse(s), instr(s, 'o'), strpos(s, 'b'), starts_with(s, 'a'), ends_with(s, 'c'), contains(s, 'l') from t order by a;
select a ** 2, a ^ 2, |/ a, !a, @x, a! from t order by a;
select isnan(x), isfinite(x), typeof(a) from t order by a;
select d + 1, d - 1, d + interval 1 day, ts - interval '1 hour', d - date '2024-01-01', age(ts, timestamp '2024-01-01'), ts - timestamp '2024-01-01' from t order by a;
select to_days(a), to_hours(a), to_seconds(a) from t order by a;
select century(d), decade(d) from t order by a;
select s || g, s like 'a%', s ilike 'A%', s glob 'a*', s not like '%b%', prefix(s,'a'), suffix(s,'c') from t order by a;
select try_cast(s as integer), a::varchar, x::integer, '12'::int, cast(a as double) from t order by a;
select a::tinyint, a::hugeint, a::utinyint, a::uinteger from t order by a;
select * from (values (1,'a'),(2,'b')) v(x,y);
select * exclude (s) from t order by a;
select a from t union by name select b from t order by all;
select count(*) from t where not exists (select 1 from r where r.id = t.a);
select a, b from t order by b nulls first, a desc;
select distinct on (g) g, a from t order by g, a;
select g, sum(a) s from t group by all having s > 3 order by all;
select a as aa, aa + 1 from t order by 1;
select 1 as x, 2 as x;
select sum(a), g from t group by 2 order by 2;
select t1.a from t t1 semi join r on t1.a = r.id order by 1;
select t1.a from t t1 anti join r on t1.a = r.id order by 1;
select if(a > 2, 'x', 'y') from t order by a;
select (select max(a) from t), exists(select 1 from r);
select interval '1 year 2 months' , interval 3 day;
select 0x1F, 1_000, 1e3, 5.;
select greatest('a', 'b'), least(date '2024-01-01', date '2023-01-01');
select 'a' 'b';
select big & a, big | a, xor(big, 5), ~big from t order by a;
select levenshtein(s, 'abd'), hamming('abc','abd'), md5(s), sha256(s), strip_accents(s) from t order by a;
select cot(x+10), sinh(x), cosh(x), tanh(x), asinh(x), acosh(abs(x)+1), atanh(x/100), even(x), factorial(a), gamma(a), lgamma(a), signbit(x), pow(a,2), ln(a), log(a), log2(a), exp(x) from t order by a;
select fmod(x,2), fdiv(a,2) from t order by a;
select log(2, a) from t order by a;
select ascii(s), chr(a+64), ord(s), strlen(s), length(s), bit_length(s) from t order by a;
select dayname(d), monthname(d), last_day(d), quarter(d), week(d), yearweek(d), era(d), isodow(d), millennium(d) from t order by a;
select regexp_full_match(s, 'a.c'), s similar to 'a.c', s glob 'a*', s not similar to 'a.c', not s glob '*b*' from t order by a;
select epoch(ts), epoch_ms(ts), epoch_us(ts), epoch_ns(ts), epoch(d), epoch_us(d) from t order by a;
select epoch_ms(big*1000) from t order by a;
select date_sub('month', d, date '2024-03-01'), datesub('day', ts, timestamp '2024-03-01'), date_sub('hour', ts, timestamp '2024-03-01 10:11:12') from t order by a;
select age(ts, timestamp '2024-01-01'), age(d, date '2000-02-29') from t order by a;
select time_bucket(interval '3 months', ts), time_bucket(interval '10 minutes', d), time_bucket(interval '5 months', ts) from t order by a;
select time_bucket(interval '1 month', ts, timestamp '2024-01-15') from t order by a;
select try_strptime(s, '%Y') from t order by a;
select time_bucket(interval '10 minutes', ts) as b, count(*), avg(a) from t group by b order by b;
select 'abc' glob '*b*', 'ABC' glob 'abc', 'a' glob '', '' glob '*', 'a[b' glob 'a[[]b', 'ab' glob 'a[^b]','ab' glob 'a[!c]', 'a.c' glob 'a.c', 'abc' glob 'a.c';
select 1 | 2 + 3, 1 + 2 << 1, 5 & 3 | 8, not 1 = 1 & 1;
select 1::bigint << 63;
select 1::hugeint<<100, 1::utinyint<<7,  200::utinyint >> 1, 1 >> -1, 1<<0, 1::bigint << 62, -8 >> 1;
select -1 << 1;
select 1 << -1;
select typeof(1 << 2::bigint), typeof(1::tinyint << 1), typeof(5::tinyint & 300), typeof(~5::utinyint), ~5::hugeint;
select typeof(1 & null), typeof(null & null), 1 & null;
select factorial(33);
select factorial(34);
select epoch_ms(timestamp '1969-07-20 20:17:40.0009'), epoch_ms(1700000000123);
select date_add(date '2024-01-01', 5), date_add(date '2024-01-01', interval 1 month);
select age(date '2024-03-31', date '2024-02-29')::varchar, age(timestamp '2024-03-01 05:00:00', timestamp '2023-01-31 10:00:00')::varchar;
select date_sub('month', date '2024-01-31', date '2024-02-29'), date_sub('year', timestamp '2024-02-29 10:00:00', timestamp '2025-02-28 10:00:00'), date_sub('week', date '2024-01-31', date '2024-02-29'),date_sub('quarter', date '2024-01-31', date '2024-02-29'),date_sub('month', date '2024-02-29', date '2024-01-31'), date_sub('day', timestamp '2024-02-29 10:00:00', timestamp '2024-02-27 11:00:00');
select levenshtein('kitten','sitting'), translate('hello','el','ip'), translate('abca','aa','xy'), regexp_full_match('ABC','abc','i'), regexp_full_match('ab','a|b');
select make_timestamp(2024,2,30,1,1,1);
select make_timestamp(2024,2,29,23,59,60), make_timestamp(1700000000000000);
select a, (select l.c from (select t.a + 5 c) l) from t order by 1;
select sum(a order by b), count(a order by b), min(a order by b) from t;
select 1 & 1.5;
select bit_count('a');
