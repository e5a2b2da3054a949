select site_id, avg(length(url)) as length, count(*) as views
from hits
where url <> ''
group by site_id
having count(*) > 1000
order by length desc, site_id
limit 25
