select
    traffic_source,
    search_engine_id,
    campaign_id,
    case when search_engine_id = 0 and campaign_id = 0 then referer else '' end as source,
    url as target,
    count(*) as views
from hits
where event_date between date '2024-03-05' and date '2024-03-20' and is_refresh = 0
group by traffic_source, search_engine_id, campaign_id, source, target
order by views desc, traffic_source, search_engine_id, campaign_id, source, target
limit 10 offset 100
