-- SQLite needs no such statement: there the owner's lock on the file tells.
select pg_advisory_unlock_shared($1)
