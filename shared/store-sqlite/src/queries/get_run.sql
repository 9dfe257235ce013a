-- A run's row, within its tenant.
select * from run_rows where id = :run_id and tenant = :tenant
