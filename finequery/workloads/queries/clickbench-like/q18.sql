select user_id, extract(minute from event_time) as minute, search_phrase, count(*) as views
from hits
group by user_id, minute, search_phrase
order by views desc, user_id, minute, search_phrase
limit 10
