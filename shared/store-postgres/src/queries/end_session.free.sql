-- SQLite needs no such statement: whoever opens its file knows that all older sessions are dead. Sessions whose lock is
-- free. Nobody is judged for $1 after the server has started: then all locks are free, and everyone is coming back.
select s.id, s.renewed_at
  from worker_sessions s
 where s.expires_at > clock_timestamp()
   and s.liveness is not null
   and pg_postmaster_start_time() < clock_timestamp() - $1
   and not exists (select from pg_locks l
                    where l.locktype = 'advisory' and l.granted and l.objsubid = 1
                      and l.database = (select oid from pg_database where datname = current_database())
                      and (l.classid::int8 << 32 | l.objid::int8) = s.liveness)
