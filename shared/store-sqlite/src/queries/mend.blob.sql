delete from blobs
 where tenant = :tenant and digest = :digest
   and not exists (select 1
                     from workflow_runs r
                     join workflow_run_events e on e.run_id = r.id
                    where r.tenant = :tenant and instr(e.data, :digest) > 0)
