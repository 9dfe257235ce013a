-- Rows around a run that does not exist, from a table that is named in place of `orphans`.
delete from orphans
 where run_id = :run_id and not exists (select 1 from workflow_runs r where r.id = :run_id)
