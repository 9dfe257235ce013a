-- Whoever renews a session meanwhile holds its row, and keeps it.
delete from worker_sessions
 where id in (select id
                from worker_sessions s
               where s.expires_at <= clock_timestamp()
                 and not exists (select from workflow_runs r where r.lease_owner = s.id)
               limit $1
                 for update skip locked)
