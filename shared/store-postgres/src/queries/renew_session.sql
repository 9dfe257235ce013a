-- Differs from SQLite's: says which lock shows that the process lives, while it holds one.
insert into worker_sessions as s (id, started_at, renewed_at, expires_at, liveness)
select $1, n.now, n.now, n.now + $2, $3 from (select clock_timestamp() as now) n
on conflict (id) do update
   set renewed_at = excluded.renewed_at, expires_at = excluded.expires_at, liveness = excluded.liveness
returning s.renewed_at
