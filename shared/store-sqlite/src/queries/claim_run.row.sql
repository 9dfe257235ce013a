-- The row that a claim has just changed; the run may be of any tenant.
select * from run_rows where id = :run_id
