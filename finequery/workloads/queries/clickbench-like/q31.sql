select url, count(*) as views
from hits
where event_date between date '2024-03-05' and date '2024-03-20' and is_refresh = 0 and is_download = 0 and url <> ''
group by url
order by views desc, url
limit 10
