select count(*) as views
from hits
where campaign_id <> 0
