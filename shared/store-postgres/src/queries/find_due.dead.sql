-- SQLite needs no such statement: whoever opens its file knows that all older sessions are dead. Ends sessions whose
-- process has died: their lock is free. A session that was renewed lately is left alone, because a connection may be
-- lost and come back while the process lives. Only then are the server's locks looked through.
update worker_sessions s
   set expires_at = n.now
  from (select clock_timestamp() as now) n
 where s.expires_at > n.now
   and s.liveness is not null
   and case when n.now - s.renewed_at > (s.expires_at - s.renewed_at) * 0.3
            then not exists (select from pg_locks l
                              where l.locktype = 'advisory' and l.granted and l.objsubid = 1
                                and l.database = (select oid from pg_database where datname = current_database())
                                and (l.classid::int8 << 32 | l.objid::int8) = s.liveness)
            else false
       end
returning s.id
