insert into approvals (run_id, seq, tenant, workflow, node, attempt, requested_at, expires_at, decided_at, decision, decided_by)
values (:run_id, :seq, :tenant, :workflow, :node, :attempt, :requested_at, :expires_at, :decided_at, :decision, :decided_by)
