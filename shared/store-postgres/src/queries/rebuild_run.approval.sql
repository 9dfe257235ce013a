insert into approvals (run_id, seq, tenant, node, attempt, requested_at, expires_at, decided_at, decision, decided_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
