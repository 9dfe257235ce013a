-- Messages that were given up, or that nobody has delivered for a long time.
select run_id, seq, attempts, dead_at is not null as is_dead, coalesce(error, 'nobody has tried') as error
  from outbox
 where dead_at is not null or created_at < clock_timestamp() - $2
 limit $1
