-- Events that may refer to blobs.
select r.tenant, e.run_id, e.data::text
  from workflow_run_events e
  join workflow_runs r on r.id = e.run_id
 where strpos(e.data::text, '"size_bytes"') > 0
