-- SQLite needs no such statement: whoever opens its file knows that all older sessions are dead. Whether there is any
-- session but those of $2, and, one to a row, those whose lock is free. Nobody is judged for $1 after the server has
-- started: then all locks are free, and everyone is coming back.
with living as materialized (
    select s.id, s.renewed_at, s.liveness
      from worker_sessions s
     where s.expires_at > clock_timestamp() and s.liveness is not null)
select exists (select from living where liveness <> all ($2)) as has_others, f.id, f.renewed_at
  from (select) one
  left join (
      select id, renewed_at
        from living
       where pg_postmaster_start_time() < clock_timestamp() - $1
         and not exists (select from pg_locks l
                          where l.locktype = 'advisory' and l.granted and l.objsubid = 1
                            and l.database = (select oid from pg_database where datname = current_database())
                            and (l.classid::int8 << 32 | l.objid::int8) = liveness)) f on true
