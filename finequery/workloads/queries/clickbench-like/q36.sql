with daily as (
    select event_date, site_id, count(*) as views
    from hits
    group by event_date, site_id
), ranked as (
    select event_date, site_id, views, row_number() over (partition by event_date order by views desc, site_id) as place
    from daily
)
select event_date, site_id, views
from ranked
where place <= 3
order by event_date, place
