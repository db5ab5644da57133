-- Airlines by delay, worst first. A view: it stores nothing, and reads the tables of whoever asks, branch or main.
{{ config(materialized="view") }}

select
    a.name as airline,
    sum(d.flights) as flights,
    sum(d.cancelled) as cancelled,
    sum(d.late) / sum(d.flights) as share_late,
    sum(d.mean_dep_delay * (d.flights - d.cancelled)) / sum(d.flights - d.cancelled) as mean_dep_delay
from {{ ref("delay_by_carrier") }} as d
join {{ ref("reference.dim_airline") }} as a using (carrier)
group by a.name
order by mean_dep_delay desc
