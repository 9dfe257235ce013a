-- Runs by id, over all tenants.
select tenant, id from workflow_runs where :after is null or id > :after order by id limit :limit
