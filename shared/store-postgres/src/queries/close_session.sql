delete from worker_sessions where id = $1
