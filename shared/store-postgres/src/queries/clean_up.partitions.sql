-- SQLite needs no such statement: its log is one table. One process is enough.
select case when pg_try_advisory_xact_lock($1, hashtext(current_schema())) then make_event_partitions($2) else 0 end
