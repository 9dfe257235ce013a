-- Runs by id, over all tenants.
select * from run_rows where :after is null or id > :after order by id limit :limit
