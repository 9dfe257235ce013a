select id, tenant, priority from workflow_runs where lease_owner = $1 and attention
