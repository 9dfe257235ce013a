-- Runs whose log is not 1, 2, 3, … up to next_seq - 1.
select r.id as run_id, r.next_seq, count(e.seq), coalesce(min(e.seq), 0), coalesce(max(e.seq), 0)
  from workflow_runs r
  left join workflow_run_events e on e.run_id = r.id
 group by r.id
having count(e.seq) <> r.next_seq - 1 or min(e.seq) <> 1 or max(e.seq) <> r.next_seq - 1 or count(e.seq) = 0
 limit :limit
