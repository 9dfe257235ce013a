-- SQLite needs no such statement: there the owner's lock on the file tells. Held until the connection ends. Shared, so
-- that several connections of one process can hold it.
select pg_try_advisory_lock_shared($1)
