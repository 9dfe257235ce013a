insert into run_labels (run_id, tenant, key, value) values (:run_id, :tenant, :key, :value)
