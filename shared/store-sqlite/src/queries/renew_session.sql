insert into worker_sessions (id, started_at, expires_at) values (:session, :now, :expires_at)
on conflict (id) do update set expires_at = excluded.expires_at
