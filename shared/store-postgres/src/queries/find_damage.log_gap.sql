-- Runs whose log is not 1, 2, 3, … up to next_seq - 1.
select r.id as run_id, r.next_seq, e.count, e.first, e.last
  from workflow_runs r
 cross join lateral (select count(*) as count, coalesce(min(seq), 0) as first, coalesce(max(seq), 0) as last
                       from workflow_run_events e
                      where e.run_id = r.id) e
 where e.count <> r.next_seq - 1 or e.first <> 1 or e.last <> r.next_seq - 1
 limit $1
