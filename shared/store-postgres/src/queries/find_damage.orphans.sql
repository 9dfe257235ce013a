-- Rows around a run that does not exist.
select kind, run_id from (
    select distinct 'orphan_events' as kind, run_id from workflow_run_events
    union all
    select 'orphan_snapshot', run_id from run_snapshots
    union all
    select distinct 'orphan_labels', run_id from run_labels
    union all
    select distinct 'orphan_approvals', run_id from approvals
    union all
    select distinct 'orphan_outbox', run_id from outbox) it
 where not exists (select from workflow_runs r where r.id = it.run_id)
 limit $1
