delete from blobs
 where tenant = $1 and digest = $2
   and not exists (select
                     from workflow_runs r
                     join workflow_run_events e on e.run_id = r.id
                    where r.tenant = $1 and strpos(e.data::text, $2) > 0)
