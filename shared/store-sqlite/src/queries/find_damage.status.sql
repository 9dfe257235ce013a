-- Runs whose status and log do not agree on whether, and how, they ended.
select r.id as run_id, r.status, e.code
  from workflow_runs r
  left join workflow_run_events e on e.run_id = r.id and e.code between 6 and 8
 where coalesce(case e.code when 6 then 'canceled' when 7 then 'completed' when 8 then 'failed' end, '')
       <> case when r.status in ('canceled', 'completed', 'failed') then r.status else '' end
 limit :limit
