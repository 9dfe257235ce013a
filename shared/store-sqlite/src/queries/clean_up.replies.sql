delete from idempotency_keys
 where id in (select id from idempotency_keys order by id limit :limit) and created_at < :before
