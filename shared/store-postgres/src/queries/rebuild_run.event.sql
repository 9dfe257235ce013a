insert into workflow_run_events (run_id, at, seq, code, actor, data) values ($1, $2, $3, $4, $5, $6::json)
