select 1 from workflow_runs where id = $1 and tenant = $2
