update workflow_runs set parent_told = false where id = any ($1) and parent_id = $2
