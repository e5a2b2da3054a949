select count(*) as views
from hits
where url like '%/boots/%'
