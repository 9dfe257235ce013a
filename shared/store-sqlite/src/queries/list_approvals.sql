-- Gates, oldest request first. `list_approvals.run.sql` reads those of one run.
select run_id, workflow, node, attempt, seq, requested_at, expires_at, decided_at, decision, decided_by
  from approvals
 where tenant = :tenant and :run_id is null
   and (:decided is null or (decided_at is not null) = :decided)
   and (requested_at, run_id, seq) > (:after_at, :after_run, :after_seq)
 order by requested_at, run_id, seq
 limit :limit
