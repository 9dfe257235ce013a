delete from idempotency_keys
 where id in (select id from idempotency_keys where created_at < clock_timestamp() - $1 order by created_at limit $2
                 for update skip locked)
