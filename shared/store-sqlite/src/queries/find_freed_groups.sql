select distinct tenant, name from concurrency_places where state = 'freed' limit :limit
