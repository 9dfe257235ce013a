-- Gates, oldest request first. `list_approvals.run.sql` reads those of one run.
select a.run_id, v.name as workflow, a.node, a.attempt, a.seq, a.requested_at, a.expires_at, a.decided_at, a.decision,
       a.decided_by
  from approvals a
  left join workflow_runs r on r.id = a.run_id
  left join workflow_versions v on v.id = r.version_id
 where a.tenant = $1 and ($2::bool is null or (a.decided_at is not null) = $2)
   and (a.requested_at, a.run_id, a.seq) > ($3, $4, $5)
 order by a.requested_at, a.run_id, a.seq
 limit $6
