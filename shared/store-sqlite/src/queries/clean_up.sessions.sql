delete from worker_sessions
 where id in (select id
                from worker_sessions s
               where expires_at <= :now
                 and not exists (select 1 from workflow_runs r where r.lease_owner = s.id)
               limit :limit)
