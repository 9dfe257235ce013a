-- SQLite needs no such statement: it has one writer. Who publishes the same name waits until this transaction ends.
select pg_advisory_xact_lock(hashtextextended($1, $2))
