select status, count(*) from workflow_runs indexed by workflow_runs_by_status group by status
