select
    region_id,
    sum(campaign_id) as campaigns,
    count(*) as views,
    avg(screen_width) as width,
    count(distinct user_id) as users
from hits
group by region_id
order by views desc, region_id
limit 10
