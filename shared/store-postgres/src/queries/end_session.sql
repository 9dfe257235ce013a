-- SQLite needs no such statement. Not if it was renewed meanwhile.
update worker_sessions
   set expires_at = clock_timestamp()
 where id = $1 and renewed_at = $2 and expires_at > clock_timestamp()
