select avg(user_id::double) as mean_user
from hits
