select watch_id, event_time, url, title, load_ms
from hits
where url like '%travel%'
order by event_time, watch_id
limit 10
