select id, tenant, priority from workflow_runs where lease_owner = :session and attention = 1
