-- SQLite needs no such statement: there every write of a group is undone alone. The deeds of these keys did not happen.
delete from idempotency_keys where id = any ($1)
