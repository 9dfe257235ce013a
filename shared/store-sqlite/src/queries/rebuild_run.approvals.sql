delete from approvals where run_id = :run_id
