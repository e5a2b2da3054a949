select sum(load_ms) as load, count(*) as views, avg(screen_width) as width, max(stay_seconds) as longest
from hits
