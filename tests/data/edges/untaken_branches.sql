create table s(t varchar, n integer);
insert into s values ('1', 1), ('x', 2), (null, 3), ('7', 0), ('', null);
select case when t in ('1','7') then cast(t as integer) else -1 end, n from s;
select cast(t as integer) from s where t <> 'x' and t <> '';
select cast(t as integer) from s;
select case when n > 0 then 10 // n else 1 // 0 end from s where n > 0;
-- since DuckDB 2
select case when n > 0 then 10 // n else 1 // 0 end from s;
select coalesce(n, cast(t as integer)) from s where t <> '';
-- since DuckDB 2
select 10 // n from s;
select 10 % n from s where n <> 0;
select 5.5::double // 2, 1/0, -1.0/0, 1 % 1, 0.0/0;
select greatest(upper(t), 'b') from s;
select try_cast(t as integer), try_cast(t as date) from s;
select case when n = 1 then upper(t) when n = 2 then t || 'z' else cast(n as varchar) end from s;
