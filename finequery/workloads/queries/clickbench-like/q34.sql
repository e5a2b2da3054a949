select date_trunc('hour', event_time) as hour, count(*) as views, count(distinct session_id) as sessions, sum(is_bounce) as bounces
from hits
where event_date between date '2024-03-14' and date '2024-03-15'
group by hour
order by hour
