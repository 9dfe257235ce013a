select status, count(*) from workflow_runs group by status
