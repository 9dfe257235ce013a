delete from approvals where run_id = $1
