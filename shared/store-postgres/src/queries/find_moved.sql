select id from workflow_runs where lease_owner = $1 and attention
