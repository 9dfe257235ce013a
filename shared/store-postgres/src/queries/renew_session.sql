insert into worker_sessions as s (id, started_at, expires_at)
select $1, n.now, n.now + $2 from (select clock_timestamp() as now) n
on conflict (id) do update set expires_at = excluded.expires_at
returning s.expires_at - $2
