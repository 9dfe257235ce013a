-- Open gates, oldest request first: the inbox. Its index holds nothing else.
select run_id, workflow, node, attempt, seq, requested_at, expires_at, decided_at, decision, decided_by
  from approvals
 where tenant = :tenant and :run_id is null
   and decided_at is null and not :decided
   and (requested_at, run_id, seq) > (:after_at, :after_run, :after_seq)
 order by requested_at, run_id, seq
 limit :limit
