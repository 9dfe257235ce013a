-- Messages that were given up, or that are due and that nobody has tried for a long time.
select run_id, seq, attempts, dead_at is not null as is_dead, coalesce(error, 'nobody has tried') as error, id
  from outbox
 where dead_at is not null or due_at < :stuck_before
 limit :limit
