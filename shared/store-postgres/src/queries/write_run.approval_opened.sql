insert into approvals (run_id, seq, tenant, node, attempt, requested_at, expires_at)
values ($1, $2, $3, $4, $5, coalesce($6, clock_timestamp()), $7)
