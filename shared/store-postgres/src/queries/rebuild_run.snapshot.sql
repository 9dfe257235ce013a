delete from run_snapshots where run_id = $1
