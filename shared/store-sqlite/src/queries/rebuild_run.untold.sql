update workflow_runs set parent_told = 0 where id = :child and parent_id = :run_id
