-- Events that may refer to blobs.
select r.tenant, e.run_id, e.data
  from workflow_run_events e
  join workflow_runs r on r.id = e.run_id
 where instr(e.data, '"size_bytes"') > 0
