select url, count(*) as views
from hits
group by url
order by views desc, url
limit 10
