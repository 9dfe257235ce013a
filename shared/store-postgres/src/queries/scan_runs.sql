-- Runs by id, over all tenants.
select * from run_rows where $1::uuid is null or id > $1 order by id limit $2
