-- A run's row, within its tenant.
select * from run_rows where id = $1 and tenant = $2
