with visits as (
    select user_id, session_id, count(*) as pages, sum(stay_seconds) as stay, max(price_cents) as price
    from hits
    group by user_id, session_id
)
select pages, count(*) as visits, sum(stay) as stay, max(price) as price
from visits
group by pages
order by pages
limit 20
