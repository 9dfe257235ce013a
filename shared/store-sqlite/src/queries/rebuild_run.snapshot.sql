delete from run_snapshots where run_id = :run_id
