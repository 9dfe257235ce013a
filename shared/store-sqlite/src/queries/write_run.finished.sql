-- The parent has taken in how this child ended.
update workflow_runs set parent_told = 1 where id = :run_id and +tenant = :tenant and +parent_id = :parent
