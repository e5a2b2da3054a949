select count(*) as views, sum(load_ms) as load
from hits
where user_id = (select max(user_id) from hits)
