select campaign_id, count(*) as views
from hits
where campaign_id <> 0
group by campaign_id
order by views desc, campaign_id
