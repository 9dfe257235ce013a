-- Differs from SQLite's: for a batch. Only the newest fold is kept.
insert into run_snapshots (run_id, seq, format, state)
select * from unnest($1::uuid[], $2::int4[], $3::int4[], $4::text[])
on conflict (run_id) do update set seq = excluded.seq, format = excluded.format, state = excluded.state
