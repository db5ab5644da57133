select c.id, c.name, coalesce(sum(o.cents), 0) as cents
from {{ ref("raw_customers") }} c left join {{ ref("orders") }} o on o.customer = c.id
group by c.id, c.name
