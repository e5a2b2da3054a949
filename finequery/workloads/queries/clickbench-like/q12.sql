select language, phone_model, count(*) as views
from hits
where phone_model <> ''
group by language, phone_model
order by views desc, language, phone_model
limit 10
