delete from worker_sessions where id = :session
