{{ config(materialized="incremental", unique_key="id") }}
select *, cast('{{ var("ds", "never") }}' as varchar(10)) as loaded_for from {{ ref("paid") }}
{% if is_incremental() %}
where day >= cast('{{ var("ds") }}' as date)
{% endif %}
