select search_phrase, min(url) as url, count(*) as views
from hits
where url like '%music%' and search_phrase <> ''
group by search_phrase
order by views desc, search_phrase
limit 10
