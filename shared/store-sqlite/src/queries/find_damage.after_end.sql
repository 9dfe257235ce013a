-- Events after the end of their run.
select e.run_id, max(e.seq), t.seq
  from workflow_run_events t
  join workflow_run_events e on e.run_id = t.run_id and e.seq > t.seq
 where t.code between 6 and 8
 group by e.run_id
 limit :limit
