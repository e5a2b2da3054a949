-- One expression a line, over a table with a column of each type: its type is DuckDB's, or both refuse it.
'+5'::int
'.5'::int
'1' * i
'1'+'2'
'1'+1
'1'||2+3
'1.'::int
'1.5'::double
'1_0.5'::double
'1e-3'::int
'2.5'*2
'2020-01-01 10:00'::date
'2020-01-01 10:00:00 '::timestamp
'5'::hugeint
'a' like 'b'
'a'||'b'
'nan '::double
(i = 1)::int + 1
(select i, b from t)
(select max(i) from t)
(select null)
+i
- interval 1 day
-(-128)
-1::utinyint
-2147483648
-2::varchar
-2^2
-dc
-f
-h
-i
-iv
-null
-ti
-ub
-ut
0.06
0.1 * 0.2
0.1 + 0.2
00001.50
1
1 % 0
1 / 0
1 // 0
1+2||'x'
1+dt
1-dc
1.0*i
1.0/3
1.23456789012345678901234567890 * 1.1
1.5
1.5*2
1.5::int
10 % 3.5
12345678901234567890 + 1.5
123456789012345678901234567890123456.5
12345678901234567890123456789012345678.5
1234567890123456789012345678901234567890.5
1::utinyint
1_000
1e3
2 ** 3
2*1.5
2*iv
2147483648
2^3^2
5.
9223372036854775808
abs('5')
abs(-5)
abs(dc)
abs(f)
abs(iv)
abs(ti)
abs(ut)
add(i,2)
any_value(s)
ascii(s)
atan2(i,f)
avg(dc) over ()
avg(i)
b > dc
b%i
b*0.5
b+1
b+1.5
bo < bo
bo = 'true'
bo = 1
bo and 1
bo and i
bo in (true, false)
bo is not true
bo is true
bo::double
bo::int
bool_and(bo)
bool_or(i)
case bo when true then 1 when false then 2.5 end
case i when 1 then 'a' else null end
case when bo then 1 else 1.5 end
case when bo then 1 else 300 end
case when bo then 1 else 3000000000 end
case when bo then dt else '2020-01-01' end
case when bo then i end
case when bo then null end
case when bo then ti else 1 end
case when bo then ti else 300 end
case when i then 1 end
case when s then 1 end
cast(s as text)
ceil(dc)
century(dt)
char_length(s)
chr(65)
coalesce()
coalesce(dt, ts)
coalesce(dt,'2020-01-01')
coalesce(i,1)
coalesce(i,1.5)
coalesce(null,1)
coalesce(s,'x')
coalesce(ti,1)
concat('a', 1, 2.5)
concat(dt, bo)
concat(i,i)
concat(s,i,null)
concat_ws(',',s,i)
contains(s,'a')
count()
count(*)
count(*) over ()
count(distinct s)
count_if(bo)
d % 2
d%2
d*1.5
d//2
d38 * d38 * d38 * d38
d38*1.5
d38*d38
d38*d38*d38
d38+1
d38+d38
d4 * d4
d4 / d4
d4%7
d4*1
d4*100
d4*1::bigint
d4+1
d::decimal(10,2)
d::hugeint
date '2020-01-01'
date_add(dt, iv)
date_add(ts, iv)
date_diff('day', '2020-01-01', dt)
date_diff('day',dt,dt)
date_part('year',dt)
date_trunc('hour',dt)
date_trunc('month',dt)
date_trunc('month',ts)
datediff('month',dt,ts)
datetrunc('month',dt)
day(dt)
dayname(dt)
dayofmonth(dt)
dayofweek(dt)
dayofyear(dt)
dc % 2.5
dc * dc * dc * dc
dc - d38
dc = '1.5'
dc = 1e0
dc > f
dc%2
dc%d4
dc*(1-d4)
dc*0.05::decimal(3,2)
dc*1
dc*b
dc*d
dc*d38
dc*dc
dc*dc*dc
dc*h
dc*i
dc+1
dc+b
dc+d38
dc+d4
dc+f
dc+h
dc+i
dc//2
dc/2
dc::int
dc::varchar
dc^2
decade(dt)
degrees(d)
divide(i,2)
dt + '1 day'
dt - '2020-01-01'
dt - 1 - 2
dt - interval 1 day - interval 1 month
dt < '2020-01-01 10:00:00'
dt = ts
dt > '2020-01-01'
dt between '2020-01-01' and '2020-12-31'
dt between '2020-01-01' and ts
dt in ('2020-01-01', null)
dt in (select '2020-01-31')
dt+1
dt+b
dt+i
dt+iv
dt+si
dt-1
dt-date '2020-01-01'
dt-dt
dt-iv
dt-ts
dt::timestamp
ends_with(s,'a')
epoch(dt)
epoch(ts)
exists(select 1)
exp(dc)
extract('month' from dt)
extract(epoch from ts)
extract(foo from dt)
extract(isodow from dt)
extract(microsecond from ts)
extract(millisecond from ts)
extract(second from ts)
extract(week from ts)
extract(year from dt)
f % 2
f // 2
f%2
f*1.5
f*2
f+b
f+d
f+f
f+i
f//f
f^2
first(iv)
first_value(s) over (partition by bo order by i)
floor(d)
floor(dc)
floor(f)
floor(i)
greatest('a',s)
greatest()
greatest(dt, ts)
greatest(i,1.5)
greatest(i,b)
greatest(null,i)
h * 2
h*0.5
h+1
h+1.5
hour(dt)
hour(ts)
i + '1'
i + null
i = (select 1)
i > d38
i between 1 and 2.5
i in ((select 1))
i in (1,'2')
i in (1,2.5)
i in (b)
i in (null)
i in (select 1.5)
i is distinct from 1
i is null
i isnull
i like '1'
i%2
i**2
i*0.123456789
i*0.5
i+1
i+1.5
i+3000000000
i+b
i//2
i/2
i::boolean
i::decimal
i::varchar
i=1.5
i^2
if(bo,1,2)
if(bo,i,dc)
ifnull(i,2)
instr(s,'a')
interval '-1.5 days'
interval '1 day -04:05:06'
interval '1 day 2'
interval '1 month 2 days'
interval '1 month ago'
interval '1' day * 3
interval '1.26 months'
interval '1.5 hours'
interval '1.5 months'
interval '1.5 weeks'
interval '1.5 years'
interval '1.5' second
interval '3' hours
interval 'P1Y'
interval (i) day
interval 1 day * 2
interval 1 month
interval 1.5 milliseconds
isoyear(dt)
iv = '1 day'
iv > interval 1 day
iv*2
iv+dt
iv+iv
iv+ts
iv-iv
iv::varchar
i||i
lag(dc,1,2.5) over (order by i)
lag(i,1,2.5) over (order by i)
last_day(dt)
last_day(ts)
lcase(s)
lead(s) over (order by i)
least(dc,d4)
left(s,2)
length('abc')
length(null)
length(s)
length(s) > 3
ln(f)
log(i)
log10(i)
log2(i)
lpad(s,5)
lpad(s,5,'x')
make_date(2020,1,2)
max(dt)
max(null)
md5(s)
mean(dc)
min(s)
minute(ts)
mod(i,2)
monthname(dt)
nosuch(i)
not i
null
null = 1
null and bo
null is null
null+1
null+null
nullif(dc,1.5)
nullif(i,'1')
nullif(i,1)
nullif(null, 1)
ord(s)
pi()
position('a' in s)
pow(i,2)
prefix(s,'a')
quarter(dt)
radians(d)
rank() over (order by i)
regexp_extract(s,'(a)',1)
regexp_extract(s,'a')
regexp_matches(s,'A','i')
regexp_matches(s,'a')
regexp_replace(s,'a','b')
regexp_replace(s,'a','b','g')
repeat(s, ub)
repeat(s,2)
replace(s,'a','b')
reverse(s)
round('1.5')
round(d,2)
round(dc)
round(dc, i)
round(dc,-1)
round(dc,1)
round(dc,5)
round(f)
round(i)
round(i,-1)
row_number() over ()
rpad(s,5,'x')
s > 5
s ^@ 'a'
s in ('a', null)
s like i
s not ilike 'A%'
s ~ 'abc'
s+1
s::date
s::decimal(10,2)
s::interval
si % 3
si+1
sign(d)
sign(dc)
sign(i)
sin(i)
split_part(s,'b',1)
sqrt('4')
sqrt(dc)
sqrt(i)
starts_with(s,'a')
stddev(i)
stddev_pop(dc)
strftime('%Y',ts)
strftime(dt,'%Y')
strftime(ts,'%Y')
strlen(s)
strpos(s)
strpos(s,'a')
strptime('2020','%Y')
substr(s,2)
substring(s, b, ti)
substring(s, i)
substring(s,1,2)
suffix(s,'a')
sum('1')
sum(bo)
sum(dc)
sum(distinct dc)
sum(f)
sum(i) filter (where bo)
sum(i) over (order by i)
sum(null)
sum(s)
sum(sum(i)) over ()
sum(ti)
s||1
s||i
ti = 300
ti+1
ti+1.5
ti+300
ti+si
ti//2
timestamp '2020-01-01'
to_days(i)
to_hours(2)
to_milliseconds(2)
to_months(2)
to_seconds(2)
to_seconds(2.5)
to_weeks(2)
to_years(2)
trim(both 'a' from s)
trim(leading 'a' from s)
trim(s)
trim(s,'a')
true
trunc(d)
trunc(d,1)
trunc(dc)
trunc(i)
try_cast(s as int)
ts + interval '1' day
ts - '2020-01-01'
ts > dt
ts+1
ts+iv
ts-dt
ts-ts
ts::date
ub + h
ub = -1
ub+1
ub+b
ub+h
ub+i
ucase(s)
ui + ub
ui+1
ui+i
upper()
upper(null)
upper(s)
upper(s, s)
us * ut
us+si
ut + si
ut - 1
ut+1
ut+ti
var_samp(i)
weekday(dt)
year(dt)
year(ts)
-2147483648
current_date
d / f
f / 2
f / dc
f // 2
ti // f
d38 % h
dc + d38
date '1998-12-01' - interval '90' day
$$a$$
