-- Runs by id, over all tenants.
select tenant, id from workflow_runs where $1::uuid is null or id > $1 order by id limit $2
