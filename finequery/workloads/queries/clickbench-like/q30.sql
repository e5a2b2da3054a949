select client_ip, client_ip - 1 as before, client_ip - 2 as further, count(*) as views
from hits
group by client_ip, client_ip - 1, client_ip - 2
order by views desc, client_ip
limit 10
