-- Who is in a group, in turn: those who have a place, then those who wait.
select run_id, priority, name, places, on_conflict, state = 'held' as has_place
  from concurrency_places
 where tenant = :tenant and name = :name and (state = 'held' or state = 'waiting')
 order by state, priority, run_id
 limit :limit
