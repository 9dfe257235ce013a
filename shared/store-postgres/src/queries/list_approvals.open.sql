-- Open gates, oldest request first: the inbox. Its index holds nothing else.
select a.run_id, v.name as workflow, a.node, a.attempt, a.seq, a.requested_at, a.expires_at, a.decided_at, a.decision,
       a.decided_by
  from approvals a
  left join workflow_runs r on r.id = a.run_id
  left join workflow_versions v on v.id = r.version_id
 where a.tenant = $1 and a.decided_at is null
   and (a.requested_at, a.run_id, a.seq) > ($2, $3, $4)
 order by a.requested_at, a.run_id, a.seq
 limit $5
