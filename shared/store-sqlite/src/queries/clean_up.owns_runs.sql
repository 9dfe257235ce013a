select 1 from workflow_runs where lease_owner = :session limit 1
