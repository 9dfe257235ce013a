-- SQLite needs no such statement: there the owner's lock on the file tells. Held until the connection ends.
select pg_try_advisory_lock($1)
