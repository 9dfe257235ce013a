-- Who is in a group, in turn: those who have a place, then those who wait.
select run_id, priority, name, places, on_conflict, state = 'held' as has_place
  from concurrency_places
 where tenant = $1 and name = $2 and state in ('held', 'waiting')
 order by state, priority, run_id
 limit $3
