select id, customer, cast(day as date) as day, {{ cents("amount") }} as cents
from {{ ref("raw_orders") }}
where cast(day as date) < cast('{{ var("data_interval_end", "2100-01-01") }}' as timestamp)
