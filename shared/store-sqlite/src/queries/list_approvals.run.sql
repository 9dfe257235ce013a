-- Gates of one run, oldest request first.
select run_id, workflow, node, attempt, seq, requested_at, expires_at, decided_at, decision, decided_by
  from approvals
 where run_id = :run_id and +tenant = :tenant
   and (:decided is null or (decided_at is not null) = :decided)
   and (requested_at, run_id, seq) > (:after_at, :after_run, :after_seq)
 order by +requested_at, run_id, seq
 limit :limit
