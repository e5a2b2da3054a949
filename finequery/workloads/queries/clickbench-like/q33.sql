select window_width, window_height, count(*) as views
from hits
where event_date >= date '2024-03-10' and event_date < date '2024-03-17' and is_refresh = 0 and is_link = 0
group by window_width, window_height
order by views desc, window_width, window_height
limit 10 offset 50
