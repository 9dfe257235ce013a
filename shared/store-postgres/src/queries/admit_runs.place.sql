-- Differs from SQLite's: for a batch.
update concurrency_places set state = $2 where run_id = any ($1::uuid[])
