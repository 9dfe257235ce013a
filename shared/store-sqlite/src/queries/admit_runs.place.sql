update concurrency_places set state = :state where run_id = :run_id
