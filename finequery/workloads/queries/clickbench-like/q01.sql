select count(*) as views
from hits
