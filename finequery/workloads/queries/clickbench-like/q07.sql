select min(event_date) as first_day, max(event_date) as last_day, min(event_time) as first_view, max(event_time) as last_view
from hits
