insert into outbox (tenant, run_id, seq, topic, body, created_at, due_at)
values (:tenant, :run_id, :seq, :topic, :body, :now, :now)
