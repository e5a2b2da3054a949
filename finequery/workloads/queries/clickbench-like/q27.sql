select search_engine_id, client_ip, count(*) as views, sum(is_refresh) as refreshes, avg(screen_width) as width
from hits
where search_phrase <> ''
group by search_engine_id, client_ip
order by views desc, search_engine_id, client_ip
limit 10
