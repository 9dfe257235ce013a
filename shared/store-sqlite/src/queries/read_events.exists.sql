select 1 from workflow_runs where id = :run_id and +tenant = :tenant
